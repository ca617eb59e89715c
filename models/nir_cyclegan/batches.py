"""Unpaired visible and near-infrared faces of different people, and pairs for the identity."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.ddat.domains import Domains
from models.nir_cyclegan.options import TrainOptions
from models.nir_cyclegan.pictures import as_infrared, as_visible, network_input
from models.nir_cyclegan.simulated import MILD, Simulation, grey
from models.training.ahead import prepared
from models.training.augment import augment
from models.training.faces import Faces, Ints

Bytes = npt.NDArray[np.uint8]

VIS, NIR, PAIRS = 0, 1, 2
"""Streams of chance."""


class Batch(NamedTuple):
    """Pictures are (.,3,S,S), RGB, -1 to 1; histograms are equalised as the options say.

    Attributes:
        vis: B visible faces, x.
        nir: B near-infrared faces of other people, y.
        given: P visible faces turned to near infrared, to mild near infrared or to grey.
        good: the same P faces before.
        rows: (B+B+P,) positions in the index; those of `nir` in its own index where it has one.
    """

    vis: Tensor
    nir: Tensor
    given: Tensor
    good: Tensor
    rows: Tensor


class Batches:
    """Endless batches, beginning at any step.

    Args:
        faces: the data.
        domains: who is where; `target` is near infrared.
        options: sizes, augmentation, batch, seed.
        infrared: real near-infrared faces and the rows of them to be used, in place of simulated
            ones.
    """

    def __init__(
        self,
        faces: Faces,
        domains: Domains,
        options: TrainOptions,
        infrared: tuple[Faces, Ints] | None = None,
    ):
        self.faces, self.options, self.infrared = faces, options, infrared
        self.vis = domains.source[: options.limit] if options.limit else domains.source
        self.nir = domains.target if infrared is None else infrared[1]
        larger = max(len(self.vis), len(self.nir))
        if larger < options.faces_per_step:
            raise ValueError(f"{larger} faces do not fill a batch")
        self.steps_per_epoch = larger // options.faces_per_step
        self.look, self.simulate = options.look(), Simulation()

    def make(self, step: int) -> Batch:
        """The batch of one step, the same at every call."""
        o = self.options
        vis = self._rows(self.vis, step, o.batch, VIS)
        nir = self._rows(self.nir, step, o.batch, NIR)
        paired = self._rows(self.vis, step, o.pairs, PAIRS)
        visible = [self._visible(row, self._chance(step, k, VIS)) for k, row in enumerate(vis)]
        infrared = [self._infrared(row, self._chance(step, k, NIR)) for k, row in enumerate(nir)]
        pairs = [self._pair(row, self._chance(step, k, PAIRS)) for k, row in enumerate(paired)]
        return Batch(
            vis=self._tensor([as_visible(face, o.he) for face in visible]),
            nir=self._tensor([as_infrared(face, o.he) for face in infrared]),
            given=self._tensor([as_infrared(given, o.he) for given, _ in pairs]),
            good=self._tensor([as_visible(good, o.he) for _, good in pairs]),
            rows=torch.from_numpy(np.concatenate([vis, nir, paired])),
        )

    def iterate(self, first: int, last: int) -> Iterator[Batch]:
        """Batches of the steps `first` up to, not including, `last`."""
        return prepared(self.make, first, last, self.options.workers)

    def _rows(self, rows: Ints, step: int, size: int, stream: int) -> Ints:
        """A step's rows: passes over all, each in an order of its own."""
        places = np.arange(step * size, (step + 1) * size)
        chosen = np.empty(size, dtype=np.int64)
        for turn in np.unique(places // len(rows)):
            inside = places // len(rows) == turn
            order = np.random.default_rng((self.options.seed, 1 + stream, int(turn)))
            chosen[inside] = order.permutation(rows)[places[inside] % len(rows)]
        return chosen

    def _chance(self, step: int, place: int, stream: int) -> np.random.Generator:
        return np.random.default_rng((self.options.seed, step, place, stream))

    def _visible(self, row: int, rng: np.random.Generator, faces: Faces | None = None) -> Bytes:
        """(112,112,3), augmented."""
        chosen = faces or self.faces
        crop = np.asarray(chosen.crops[row])
        return augment(crop, chosen.points[row], chosen.euler[row], self.look, rng).picture

    def _infrared(self, row: int, rng: np.random.Generator) -> Bytes:
        if self.infrared is None:
            return self.simulate(self._visible(row, rng), rng)
        return grey(self._visible(row, rng, self.infrared[0]), rng)

    def _pair(self, row: int, rng: np.random.Generator) -> tuple[Bytes, Bytes]:
        good, kind = self._visible(row, rng), rng.random()
        if kind < self.options.grey_share:
            return grey(good, rng), good
        mild = kind < self.options.grey_share + self.options.mild_share
        return (MILD if mild else self.simulate)(good, rng), good

    def _tensor(self, pictures: list[Bytes]) -> Tensor:
        side = self.options.side
        if not pictures:
            return torch.empty(0, 3, side, side)
        return torch.from_numpy(np.stack([network_input(face, side) for face in pictures]))
