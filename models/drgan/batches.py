"""Batches of P people with n images each, every step reproducible by itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.drgan.network import IMAGE_SIDE
from models.drgan.options import TrainOptions
from models.drgan.poses import YawBins
from models.training.ahead import prepared
from models.training.augment import Augmentation, Sample, augment, change_look
from models.training.faces import Faces, Ints

TURNED = 45.0
"""|yaw| in degrees from which `turned_repeat` counts."""

NO_LOOK = {
    "light": 0.0, "low_resolution": 0.0, "blur": 0.0, "grey": 0.0, "near_infrared": 0.0,
    "occlusion": 0.0, "jpeg": 0.0,
}  # fmt: skip

Bytes = npt.NDArray[np.uint8]


class Batch(NamedTuple):
    """P x n images, a person's side by side.

    Attributes:
        seen: (P*n,3,96,96) -1 to 1, what the encoder gets: with blur, noise and the like.
        real: (P*n,3,96,96) the same faces without, what the discriminator calls real.
        labels: (P*n,) identities.
        yaw: (P*n,) degrees, 0 where no pose is known.
        bins: (P*n,) yaw bins.
        rows: (P*n,) positions in the index.
    """

    seen: Tensor
    real: Tensor
    labels: Tensor
    yaw: Tensor
    bins: Tensor
    rows: Tensor


class Batches:
    """Endless batches, beginning at any step.

    Args:
        faces: the data.
        labels: (N,) identity of each row, -1 for rows that are not used.
        bins: yaw bins.
        options: P, n, augmentation, seed.
    """

    def __init__(self, faces: Faces, labels: Ints, bins: YawBins, options: TrainOptions):
        self.faces, self.labels, self.bins, self.options = faces, labels, bins, options
        used = np.flatnonzero(labels >= 0)
        order = used[np.argsort(labels[used], kind="stable")]
        edges = np.flatnonzero(np.diff(labels[order])) + 1
        self.rows_of = np.split(order, edges)
        if options.limit:
            self.rows_of = self.rows_of[: options.limit]
        yaw = np.nan_to_num(faces.euler[:, 1])
        # Rare poses are drawn more often, by the square root of how rare they are.
        size = np.bincount(bins.of(np.abs(yaw[used])), minlength=len(bins))
        self.chance = 1 / np.sqrt(np.maximum(size, 1))[bins.of(np.abs(yaw))]
        turned = [bool((np.abs(yaw[rows]) > TURNED).any()) for rows in self.rows_of]
        self.visits = np.repeat(
            np.arange(len(self.rows_of)), np.where(turned, options.turned_repeat, 1)
        )
        if len(self.rows_of) < options.people:
            raise ValueError(f"{len(self.rows_of)} people do not fill a step of {options.people}")
        self.steps_per_epoch = max(1, len(self.visits) // options.people)
        self.geometry = options.augmentation.model_copy(update=NO_LOOK)

    def make(self, step: int) -> Batch:
        """The batch of one step, the same at every call."""
        epoch, position = divmod(step, self.steps_per_epoch)
        o = self.options
        order = np.random.default_rng((o.seed, epoch)).permutation(self.visits)
        rng = np.random.default_rng((o.seed, step, 0))
        people = order[position * o.people : (position + 1) * o.people]
        rows = np.concatenate([self._choose(self.rows_of[person], rng) for person in people])
        pairs = [
            _pair(self.faces, row, self.geometry, o.augmentation, (o.seed, step, 1 + place))
            for place, row in enumerate(rows)
        ]
        yaw = np.nan_to_num(np.array([sample.euler[1] for sample, _ in pairs]))
        return Batch(
            seen=to_tensor([seen for _, seen in pairs]),
            real=to_tensor([sample.picture for sample, _ in pairs]),
            labels=torch.from_numpy(self.labels[rows]),
            yaw=torch.from_numpy(yaw.astype(np.float32)),
            bins=torch.from_numpy(self.bins.of(yaw)),
            rows=torch.from_numpy(rows),
        )

    def _choose(self, rows: Ints, rng: np.random.Generator) -> Ints:
        """N of a person's images; some twice only if there are fewer."""
        chance = self.chance[rows] / self.chance[rows].sum()
        n = self.options.images
        return rng.choice(rows, n, replace=len(rows) < n, p=chance)

    def iterate(self, first: int, last: int) -> Iterator[Batch]:
        """Batches of the steps `first` up to, not including, `last`."""
        return prepared(self.make, first, last, self.options.workers)


class WarmBatches:
    """Single faces with their teacher's direction, for the distillation.

    Args:
        faces: the data.
        rows: what is visited.
        options: augmentation, batch, seed.
    """

    def __init__(self, faces: Faces, rows: Ints, options: TrainOptions):
        self.faces, self.rows, self.options = faces, rows, options
        self.batch = min(options.warm_batch, len(rows))
        self.steps_per_epoch = len(rows) // self.batch

    def make(self, step: int) -> tuple[Tensor, Tensor]:
        """(B,3,96,96) and (B,) rows of one step."""
        epoch, position = divmod(step, self.steps_per_epoch)
        o = self.options
        order = np.random.default_rng((o.seed, epoch)).permutation(self.rows)
        rows = order[position * self.batch : (position + 1) * self.batch]
        seen = [
            augment(
                np.asarray(self.faces.crops[row]),
                self.faces.points[row],
                self.faces.euler[row],
                o.augmentation,
                np.random.default_rng((o.seed, step, place)),
            ).picture
            for place, row in enumerate(rows)
        ]
        return to_tensor(seen), torch.from_numpy(rows)

    def iterate(self, first: int, last: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of the steps `first` up to, not including, `last`."""
        return prepared(self.make, first, last, self.options.workers)


def _pair(
    faces: Faces, row: int, geometry: Augmentation, look: Augmentation, seed: tuple[int, ...]
) -> tuple[Sample, Bytes]:
    """The face moved and perhaps mirrored; and the same with the look of a worse camera."""
    rng = np.random.default_rng(seed)
    crop, points, euler = np.asarray(faces.crops[row]), faces.points[row], faces.euler[row]
    sample = augment(crop, points, euler, geometry, rng)
    return sample, change_look(sample.picture, look, rng)


def to_tensor(pictures: list[Bytes] | Bytes) -> Tensor:
    """(112,112,3) uint8 RGB template crops -> (B,3,96,96) -1 to 1, channels last in memory."""
    small = [
        cv2.resize(picture, (IMAGE_SIDE, IMAGE_SIDE), interpolation=cv2.INTER_AREA)
        for picture in pictures
    ]
    return torch.from_numpy(np.stack(small)).permute(0, 3, 1, 2).float() / 127.5 - 1
