"""Triples of one source face of few pixels, the same face when good, and one target face."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.ddat.degradations import FULL_SIDE, draw_side, scaled, sensor_noise, up_sample
from models.ddat.domains import Domains
from models.ddat.options import TrainOptions
from models.training.ahead import prepared
from models.training.augment import augment
from models.training.faces import Faces
from models.training.warp import random_jitter

Bytes = npt.NDArray[np.uint8]

WEAK_NOISE = 2.0
"""Spread in levels of the noise in the weak augmentation of a target face."""

WEAK_MIRROR = 0.5

ARM = 30.0
"""Pixels from the middle of the five points to a point: errors there turn and scale the crop."""


class Batch(NamedTuple):
    """B triples; pictures are (B,3,112,112), RGB, -1 to 1.

    Attributes:
        source: source faces of few pixels, up-sampled.
        good: the same faces before.
        target: target faces of few pixels, up-sampled; of other people.
        weak: the target faces again, perhaps mirrored, with a little noise.
        labels: (B,) class of each source face, -1 for none.
        sides: (B,2) pixels that were left of source and target face.
        rows: (B,2) positions of both in the index.
    """

    source: Tensor
    good: Tensor
    target: Tensor
    weak: Tensor
    labels: Tensor
    sides: Tensor
    rows: Tensor


class Batches:
    """Endless batches, beginning at any step.

    Args:
        faces: the data.
        domains: who is where.
        options: sizes, degradations, augmentation, batch, seed.
    """

    def __init__(self, faces: Faces, domains: Domains, options: TrainOptions):
        self.faces, self.domains, self.options = faces, domains, options
        self.rows = domains.source[: options.limit] if options.limit else domains.source
        if len(self.rows) < options.batch:
            raise ValueError(f"{len(self.rows)} source faces do not fill a batch")
        self.steps_per_epoch = len(self.rows) // options.batch
        self.source, self.target = options.source_domain(), options.target_domain()

    def make(self, step: int) -> Batch:
        """The batch of one step, the same at every call."""
        o = self.options
        epoch, position = divmod(step, self.steps_per_epoch)
        order = np.random.default_rng((o.seed, epoch)).permutation(self.rows)
        sources = order[position * o.batch : (position + 1) * o.batch]
        targets = self._targets(step)
        first, second = [], []
        for place, (row, other) in enumerate(zip(sources, targets, strict=True)):
            first.append(self._source(row, np.random.default_rng((o.seed, step, place, 0))))
            second.append(self._target(other, np.random.default_rng((o.seed, step, place, 1))))
        return Batch(
            source=_tensor([low for low, _, _ in first]),
            good=_tensor([good for _, good, _ in first]),
            target=_tensor([low for low, _, _ in second]),
            weak=_tensor([weak for _, weak, _ in second]),
            labels=torch.from_numpy(self.domains.labels[sources]),
            sides=torch.tensor([[a[2], b[2]] for a, b in zip(first, second, strict=True)]),
            rows=torch.from_numpy(np.stack([sources, targets], axis=1)),
        )

    def iterate(self, first: int, last: int) -> Iterator[Batch]:
        """Batches of the steps `first` up to, not including, `last`."""
        return prepared(self.make, first, last, self.options.workers)

    def _targets(self, step: int) -> npt.NDArray[np.int64]:
        """The batch's target rows: passes over the target, each in an order of its own."""
        count, size = len(self.domains.target), self.options.batch
        places = np.arange(step * size, (step + 1) * size)
        rows = np.empty(size, dtype=np.int64)
        for turn in np.unique(places // count):
            inside = places // count == turn
            order = np.random.default_rng((self.options.seed, 1, int(turn))).permutation(count)
            rows[inside] = self.domains.target[order[places[inside] % count]]
        return rows

    def _face(self, row: int, rng: np.random.Generator) -> tuple[Bytes, int]:
        """A good face as augmented, and the side that it is to lose its pixels to."""
        o, faces = self.options, self.faces
        crop = np.asarray(faces.crops[row])
        sample = augment(crop, faces.points[row], faces.euler[row], o.augmentation, rng)
        return sample.picture, draw_side(rng, o.size_from, o.size_to)

    def _source(self, row: int, rng: np.random.Generator) -> tuple[Bytes, Bytes, int]:
        good, side = self._face(row, rng)
        small = self.source.degrade(self._misplaced(good, side, rng), side, rng)
        return up_sample(small, self.options.upsampling), good, side

    def _misplaced(self, good: Bytes, side: int, rng: np.random.Generator) -> Bytes:
        """The face as it is cut out where its points are seen in few pixels: moved a little."""
        if not self.options.misplaced:
            return good
        spread = self.options.misplaced * FULL_SIDE / side
        jitter = random_jitter(rng, np.degrees(spread / ARM), spread / ARM, spread)
        size = (FULL_SIDE, FULL_SIDE)
        moved: Bytes = cv2.warpAffine(good, jitter, size, borderMode=cv2.BORDER_REPLICATE)
        return moved

    def _target(self, row: int, rng: np.random.Generator) -> tuple[Bytes, Bytes, int]:
        hidden, side = self._face(row, rng)
        small = self.target.degrade(hidden, side, rng)
        low = up_sample(small, self.options.upsampling)
        weak = low[:, ::-1] if rng.random() < WEAK_MIRROR else low
        return low, sensor_noise(weak, 0.0, WEAK_NOISE, rng), side


def _tensor(pictures: list[Bytes]) -> Tensor:
    return torch.from_numpy(np.stack([scaled(picture) for picture in pictures]))
