"""Pose codes: yaw bins of 15 degrees, merged at the ends where the data is thin."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

STEP = 15.0
WIDEST = 90.0
FRONTAL = 0.0

Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class YawBins:
    """Bins around multiples of 15 degrees; the outermost are open.

    Attributes:
        centres: degrees, ascending, symmetric, 0 among them.
    """

    centres: tuple[float, ...]

    def __len__(self) -> int:
        return len(self.centres)

    @property
    def frontal(self) -> int:
        """The bin of 0 degrees."""
        return self.centres.index(FRONTAL)

    def of(self, yaw: Floats) -> Ints:
        """(N,) degrees -> (N,) bins; NaN, a pose that is not known, counts as frontal."""
        known = np.nan_to_num(np.asarray(yaw, dtype=np.float64), nan=FRONTAL)
        bins = np.floor((known - self.centres[0] + STEP / 2) / STEP).astype(np.int64)
        return np.clip(bins, 0, len(self) - 1)

    def counts(self, yaw: Floats) -> dict[str, int]:
        """Faces per bin, by the bin's centre, for the record of a run."""
        counts = np.bincount(self.of(yaw), minlength=len(self))
        return {f"{c:+.0f}": int(n) for c, n in zip(self.centres, counts, strict=True)}


def symmetric_bins(widest: float) -> YawBins:
    """Bins from minus to plus `widest` degrees, a multiple of 15."""
    side = round(widest / STEP)
    return YawBins(tuple(k * STEP for k in range(-side, side + 1)))


def merged_bins(yaw: Floats, least_share: float, widest: float = WIDEST) -> YawBins:
    """The paper's bins, the outermost merged inwards until each holds enough faces.

    Args:
        yaw: (N,) degrees of the training faces; both signs count together, as faces are mirrored.
        least_share: of all faces, in the two bins of one size of turn.
        widest: where the paper's bins end.
    """
    while widest > STEP:
        bins = symmetric_bins(widest)
        places = bins.of(yaw)
        outer = np.isin(places, (0, len(bins) - 1)).mean()
        if outer >= least_share:
            return bins
        widest -= STEP
    return symmetric_bins(STEP)
