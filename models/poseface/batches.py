"""Prepared batches, in an order and with a chance that depend on seed, epoch and position alone.

Any step of a run can be made again without the steps before it: that is what exact resuming needs.
Threads do the work (OpenCV releases the interpreter's lock), a few batches ahead of the training.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.poseface.landmarks import normalise_landmarks
from models.training.ahead import prepared
from models.training.augment import Augmentation, Bytes, augment
from models.training.blend import blend
from models.training.faces import Faces, Ints

Flags = npt.NDArray[np.bool_]


class Batch(NamedTuple):
    """One step's faces.

    Attributes:
        images: (B,3,112,112) uint8 RGB, channels last in memory.
        landmarks: (B,10) normalised.
        euler: (B,3) degrees, of the augmented faces.
        rows: (B,) positions in the index.
        whole: (B,) False where a face is blended with somebody else's: it has no person, no pose.
    """

    images: Tensor
    landmarks: Tensor
    euler: Tensor
    rows: Tensor
    whole: Tensor


class Batches:
    """Endless batches over `rows`, beginning at any step.

    Args:
        faces: the data.
        rows: what every epoch visits; a row may occur more than once.
        extra: rows of which every epoch visits another random `extra_share`.
        extra_share: [0,1].
        options: augmentation.
        batch: faces per step; what does not fill a batch waits for the next epoch's order.
        seed: of order and chance.
        workers: threads.
        blends: share of the faces that are blended with another, [0,1].
    """

    def __init__(
        self,
        faces: Faces,
        rows: Ints,
        options: Augmentation,
        batch: int,
        seed: int,
        workers: int,
        extra: Ints | None = None,
        extra_share: float = 1.0,
        blends: float = 0.0,
    ):
        self.faces = faces
        self.rows = rows
        self.extra = extra if extra is not None else rows[:0]
        self.extra_count = round(extra_share * len(self.extra))
        visits = len(rows) + self.extra_count
        if visits < batch:
            raise ValueError(f"{visits} faces do not fill a batch of {batch}")
        self.options = options
        self.batch = batch
        self.seed = seed
        self.workers = workers
        self.blends = blends
        self.steps_per_epoch = visits // batch

    def make(self, step: int) -> Batch:
        """The batch of one step, the same at every call."""
        epoch, position = divmod(step, self.steps_per_epoch)
        rng = np.random.default_rng((self.seed, epoch))
        chosen = rng.permutation(self.extra)[: self.extra_count]
        order = rng.permutation(np.concatenate([self.rows, chosen]))
        rows = order[position * self.batch : (position + 1) * self.batch]
        crops, whole = self._crops(rows, np.random.default_rng((self.seed, step, self.batch)))
        samples = [
            augment(
                crops[place],
                self.faces.points[row],
                self.faces.euler[row],
                self.options,
                np.random.default_rng((self.seed, step, place)),
            )
            for place, row in enumerate(rows)
        ]
        pictures = torch.from_numpy(np.stack([s.picture for s in samples]))
        points = torch.from_numpy(np.stack([s.points for s in samples]))
        return Batch(
            images=pictures.permute(0, 3, 1, 2),
            landmarks=normalise_landmarks(points),
            euler=torch.from_numpy(np.stack([s.euler for s in samples])),
            rows=torch.from_numpy(rows),
            whole=torch.from_numpy(whole),
        )

    def _crops(self, rows: Ints, rng: np.random.Generator) -> tuple[list[Bytes], Flags]:
        """Faces of the rows, some blended with others, and which are not."""
        whole = rng.random(len(rows)) >= self.blends
        crops = [np.asarray(self.faces.crops[row]) for row in rows]
        for place in np.flatnonzero(~whole):
            other = rng.choice(self.rows[self.rows != rows[place]])
            crops[place] = blend(crops[place], np.asarray(self.faces.crops[other]), rng)
        return crops, whole

    def iterate(self, first: int, last: int) -> Iterator[Batch]:
        """Batches of the steps `first` up to, not including, `last`."""
        return prepared(self.make, first, last, self.workers)
