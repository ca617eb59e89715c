"""False match and false non-match rates of lists of similarity scores.

Names follow ISO/IEC 19795-1: a *genuine* (mated) comparison is of two samples of one person, an
*impostor* (non-mated) comparison of two people. FMR is the share of impostor comparisons that
match, FNMR the share of genuine comparisons that do not. Higher scores mean more alike, and a
comparison matches if and only if ``score >= threshold``. A failed acquisition is the score
``-inf``: it counts as a comparison of its kind and matches at no threshold.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

LOWEST_THRESHOLD = float(np.nextafter(-np.inf, np.inf))
"""The smallest finite threshold: every comparison matches except a failed acquisition."""


def checked_scores(values: ArrayLike, name: str = "scores") -> FloatArray:
    """Return scores as float64.

    Args:
        values: shape (N,), N >= 1; finite, or ``-inf`` for a failed acquisition.
        name: what the message of an error calls them.

    Raises:
        ValueError: not one-dimensional, empty, or holding NaN or ``+inf``.
    """
    scores = np.asarray(values, dtype=np.float64)
    if scores.ndim != 1:
        raise ValueError(f"{name}: expected one dimension, got shape {scores.shape}")
    if scores.size == 0:
        raise ValueError(f"{name}: empty")
    if np.isnan(scores).any() or np.isposinf(scores).any():
        raise ValueError(f"{name}: NaN or +inf is not a score")
    return scores


def _share_matching(scores: FloatArray, threshold: float) -> float:
    if math.isnan(threshold):
        raise ValueError("the threshold is NaN")
    return float(np.mean((scores >= threshold) & (scores > -np.inf)))


def false_match_rate(impostor: ArrayLike, threshold: float) -> float:
    """FMR in [0, 1] of impostor scores (N,) at a threshold; ISO/IEC 19795-1.

    Raises:
        ValueError: bad scores (see `checked_scores`) or a NaN threshold.
    """
    return _share_matching(checked_scores(impostor, "impostor"), threshold)


def false_non_match_rate(genuine: ArrayLike, threshold: float) -> float:
    """FNMR in [0, 1] of genuine scores (N,) at a threshold; ISO/IEC 19795-1.

    Raises:
        ValueError: bad scores (see `checked_scores`) or a NaN threshold.
    """
    return 1.0 - _share_matching(checked_scores(genuine, "genuine"), threshold)


def allowed_false_matches(target: float, comparisons: float) -> int:
    """Return k, the most false matches that keep ``k / comparisons <= target``.

    This is ``floor(target * comparisons)`` without the rounding error of the product: 29 of 100
    comparisons are allowed at 0.29 although ``0.29 * 100 < 29`` in floating point.

    Args:
        target: FMR in [0, 1].
        comparisons: number of impostor comparisons, or the sum of their weights; positive.

    Raises:
        ValueError: an argument is out of its range.
    """
    if not 0.0 <= target <= 1.0:
        raise ValueError(f"a target FMR lies in [0, 1], not {target}")
    if not 0 < comparisons < math.inf:
        raise ValueError(f"no rate can be had from {comparisons} comparisons")
    allowed = math.floor(target * comparisons)
    if (allowed + 1) / comparisons <= target:
        return allowed + 1
    return allowed - 1 if allowed / comparisons > target else allowed


def threshold_at_fmr(impostor: ArrayLike, target: float) -> float:
    """Return the smallest float64 threshold whose FMR does not exceed a target.

    With k false matches allowed, it is the next float above the (k+1)-th largest impostor score,
    so scores that tie with that one are rejected and the achieved FMR may be lower than asked.
    It is finite whatever the target: where nothing needs rejecting it is `LOWEST_THRESHOLD`, which
    failed acquisitions (``-inf``) do not reach.

    Args:
        impostor: scores, shape (N,), float64 (other types are converted).
        target: FMR in [0, 1]. Below 1/N the threshold lies just above the largest score, and the
            data cannot tell whether the target is met.

    Raises:
        ValueError: bad scores (see `checked_scores`) or a target outside [0, 1].
    """
    scores = checked_scores(impostor, "impostor")
    allowed = allowed_false_matches(target, scores.size)
    if allowed >= scores.size:
        return LOWEST_THRESHOLD
    rank = scores.size - 1 - allowed
    return float(np.nextafter(np.partition(scores, rank)[rank], np.inf))


@dataclass(frozen=True)
class TarAtFmr:
    """True accept rate (1 - FNMR) at the threshold for a target FMR; rates in [0, 1].

    `allowed` is k, the false matches that the target allows among `impostor_comparisons`; a target
    with k < 30 rests on too few errors for a tight estimate (the "rule of 30").
    """

    target: float
    tar: float
    fmr: float
    threshold: float
    allowed: int
    genuine_comparisons: int
    impostor_comparisons: int


def tar_at_fmr(genuine: ArrayLike, impostor: ArrayLike, target: float) -> TarAtFmr:
    """Return the true accept rate at a target FMR, without interpolation.

    Args:
        genuine: scores, shape (N,).
        impostor: scores, shape (M,).
        target: FMR in [0, 1].

    Raises:
        ValueError: bad scores (see `checked_scores`) or a target outside [0, 1].
    """
    mated, non_mated = checked_scores(genuine, "genuine"), checked_scores(impostor, "impostor")
    threshold = threshold_at_fmr(non_mated, target)
    return TarAtFmr(
        target=target,
        tar=_share_matching(mated, threshold),
        fmr=_share_matching(non_mated, threshold),
        threshold=threshold,
        allowed=allowed_false_matches(target, non_mated.size),
        genuine_comparisons=mated.size,
        impostor_comparisons=non_mated.size,
    )


@dataclass(frozen=True)
class ErrorCurve:
    """Every operating point of a set of comparisons, from the strictest on (ROC and DET).

    `thresholds` (T,) descends: ``+inf`` (nothing matches), then each distinct finite score.
    `genuine_matches` and `impostor_matches` (T,) are the comparisons that match there, as counts
    or sums of weights; `genuine_total` and `impostor_total` include the failed acquisitions.
    """

    thresholds: FloatArray
    genuine_matches: FloatArray
    impostor_matches: FloatArray
    genuine_total: float
    impostor_total: float

    @property
    def fmr(self) -> FloatArray:
        """False match rates (T,) in [0, 1], not descending."""
        return self.impostor_matches / self.impostor_total

    @property
    def fnmr(self) -> FloatArray:
        """False non-match rates (T,) in [0, 1], not ascending."""
        return 1.0 - self.genuine_matches / self.genuine_total

    def index_at_fmr(self, target: float) -> int:
        """Return the index of the lowest listed threshold whose FMR does not exceed a target."""
        allowed = allowed_false_matches(target, self.impostor_total)
        return int(np.searchsorted(self.impostor_matches, allowed, side="right")) - 1

    def index_of_equal_error(self) -> int:
        """Return the index where |FMR - FNMR| is least; of equals, the highest threshold."""
        # Cross-multiplied, counts stay whole numbers, so that ties are exact.
        misses = self.genuine_total - self.genuine_matches
        gap = self.impostor_matches * self.genuine_total - misses * self.impostor_total
        return int(np.argmin(np.abs(gap)))


class ThresholdSweep:
    """Labelled scores sorted once, to be counted many times under different weights.

    Args:
        scores: shape (N,); see `checked_scores`.
        same: shape (N,), true for genuine comparisons.

    Raises:
        ValueError: bad scores, or `same` of another shape.
    """

    def __init__(self, scores: ArrayLike, same: ArrayLike) -> None:
        values = checked_scores(scores)
        self.same: BoolArray = np.asarray(same, dtype=np.bool_)
        if self.same.shape != values.shape:
            raise ValueError(f"{values.size} scores but labels of shape {self.same.shape}")
        acquired = np.count_nonzero(values > -np.inf)
        self._order = np.argsort(-values, kind="stable")[:acquired]
        ranked = values[self._order]
        self._last_of_ties = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], acquired > 0))
        self.thresholds: FloatArray = np.append(np.inf, ranked[self._last_of_ties])

    def accepted(self, amounts: FloatArray) -> FloatArray:
        """Sum per-comparison amounts (N,) over the matches at each threshold; shape (T,)."""
        sums = np.empty(self.thresholds.size)
        sums[0] = 0.0
        np.take(np.cumsum(amounts[self._order]), self._last_of_ties, out=sums[1:])
        return sums

    def curve(self, weights: FloatArray | None = None) -> ErrorCurve:
        """Return the operating points, each comparison counted `weights` (N,) times."""
        counted = np.ones(self.same.size) if weights is None else weights
        mated, non_mated = counted * self.same, counted * ~self.same
        return ErrorCurve(
            thresholds=self.thresholds,
            genuine_matches=self.accepted(mated),
            impostor_matches=self.accepted(non_mated),
            genuine_total=float(mated.sum()),
            impostor_total=float(non_mated.sum()),
        )


def error_curve(genuine: ArrayLike, impostor: ArrayLike) -> ErrorCurve:
    """Return the points of the ROC (1 - FNMR over FMR) and DET (FNMR over FMR) curves.

    Args:
        genuine: scores, shape (N,).
        impostor: scores, shape (M,).

    Raises:
        ValueError: bad scores (see `checked_scores`).
    """
    mated, non_mated = checked_scores(genuine, "genuine"), checked_scores(impostor, "impostor")
    same = np.arange(mated.size + non_mated.size) < mated.size
    return ThresholdSweep(np.concatenate([mated, non_mated]), same).curve()


@dataclass(frozen=True)
class EqualErrorRate:
    """Equal error rate in [0, 1], and the operating point that it was read at."""

    rate: float
    threshold: float
    fmr: float
    fnmr: float


def equal_error_rate(genuine: ArrayLike, impostor: ArrayLike) -> EqualErrorRate:
    """Return the EER: the mean of FMR and FNMR at the threshold where they differ least.

    Only thresholds at the scores themselves (and one above them all) are tried, nothing is
    interpolated, and of equally good thresholds the highest is taken. Failed acquisitions can
    keep the two rates apart at every threshold; `fmr` and `fnmr` of the result then show it.

    Args:
        genuine: scores, shape (N,).
        impostor: scores, shape (M,).

    Raises:
        ValueError: bad scores (see `checked_scores`).
    """
    curve = error_curve(genuine, impostor)
    index = curve.index_of_equal_error()
    fmr, fnmr = float(curve.fmr[index]), float(curve.fnmr[index])
    return EqualErrorRate((fmr + fnmr) / 2, float(curve.thresholds[index]), fmr, fnmr)
