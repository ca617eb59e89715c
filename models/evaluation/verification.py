"""The report on a list of labelled pairs: accuracy, TAR at FMR, EER, with intervals over people."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.evaluation.bootstrap import bootstrap_by_person, person_indices
from models.evaluation.folds import FoldSplit, fold_accuracy
from models.evaluation.rates import (
    BoolArray,
    ErrorCurve,
    FloatArray,
    ThresholdSweep,
    checked_scores,
    equal_error_rate,
    tar_at_fmr,
)

Bounds = tuple[float, float]


@dataclass(frozen=True)
class VerificationReport:
    """Verification performance on one list of pairs.

    Percent in [0, 100]: `accuracy` (mean over `folds`, the threshold chosen on the others), its
    standard error `accuracy_se`, and `tar_at_fmr` by target FMR (a fraction). Fractions in [0, 1]:
    `eer` and `fmr_achieved`, the FMR at the threshold for each target, which is set on the same
    pairs. `allowed` is the number of false matches behind each target: below 30 the TAR is a rough
    estimate.

    Each `*_interval` is the 95 % percentile bootstrap interval over people, in the unit of its
    figure, and None (or empty) when the people are not known. The accuracy interval covers the
    choice of the threshold too. `failed` counts the pairs with a failed acquisition (score
    ``-inf``), which never match; they are among the `genuine` and `impostor` pairs.
    """

    accuracy: float
    accuracy_se: float
    accuracy_interval: Bounds | None
    tar_at_fmr: dict[float, float]
    tar_interval: dict[float, Bounds]
    fmr_achieved: dict[float, float]
    allowed: dict[float, int]
    eer: float
    eer_interval: Bounds | None
    pairs: int
    genuine: int
    impostor: int
    failed: int
    folds: int
    people: int | None


class _WeightedStatistics:
    """Mean accuracy, EER and each TAR, all as fractions, under weights of the pairs."""

    def __init__(
        self, scores: FloatArray, same: BoolArray, folds: ArrayLike, targets: Sequence[float]
    ) -> None:
        self._split = FoldSplit(scores, same, folds)
        self._sweep = ThresholdSweep(scores, same)
        self._targets = targets

    def __call__(self, weights: FloatArray) -> FloatArray:
        curve = self._sweep.curve(weights)
        if curve.genuine_total == 0 or curve.impostor_total == 0:
            return np.full(2 + len(self._targets), np.nan)
        accuracies, _ = self._split.accuracies(weights)
        tars = [self._tar(curve, target) for target in self._targets]
        return np.array([np.nanmean(accuracies), self._eer(curve), *tars])

    @staticmethod
    def _eer(curve: ErrorCurve) -> float:
        index = curve.index_of_equal_error()
        return float(curve.fmr[index] + curve.fnmr[index]) / 2

    @staticmethod
    def _tar(curve: ErrorCurve, target: float) -> float:
        return float(curve.genuine_matches[curve.index_at_fmr(target)] / curve.genuine_total)


def _percent(low: float, high: float) -> Bounds:
    return 100 * low, 100 * high


def evaluate_pairs(
    scores: ArrayLike,
    same: ArrayLike,
    folds: ArrayLike,
    people_a: Sequence[Hashable] | NDArray[np.generic] | None = None,
    people_b: Sequence[Hashable] | NDArray[np.generic] | None = None,
    *,
    targets: Sequence[float] = (1e-2, 1e-3),
    resamples: int = 1000,
    seed: int = 0,
) -> VerificationReport:
    """Evaluate N labelled pairs (LFW View 2 accuracy; TAR, FMR and EER as in ISO/IEC 19795-1).

    Args:
        scores: similarities, shape (N,); ``-inf`` where an acquisition failed.
        same: shape (N,), true for genuine pairs; both kinds are needed.
        folds: fold label of each pair, shape (N,), at least two different ones.
        people_a: who the first picture of each pair shows, N names; None: no intervals.
        people_b: who the second picture shows, N names, given if and only if `people_a` is.
        targets: FMRs in [0, 1] at which to give the TAR.
        resamples: draws of people for the intervals.
        seed: makes the intervals repeatable.

    Raises:
        ValueError: lengths differ, only one kind of pair, bad scores (see `checked_scores`), bad
            folds (see `FoldSplit`), a target out of range, or `same` contradicts the people.
    """
    values, labels = checked_scores(scores), np.asarray(same, dtype=np.bool_)
    if labels.shape != values.shape:
        raise ValueError(f"{values.size} scores but labels of shape {labels.shape}")
    genuine, impostor = values[labels], values[~labels]
    accuracy = fold_accuracy(values, labels, folds)
    points = {target: tar_at_fmr(genuine, impostor, target) for target in targets}
    accuracy_interval = eer_interval = people = None
    tar_interval: dict[float, Bounds] = {}
    if people_a is not None and people_b is not None:
        people = _check_people(people_a, people_b, labels)
        accuracy_range, eer_range, *tar_ranges = bootstrap_by_person(
            _WeightedStatistics(values, labels, folds, targets),
            people_a,
            people_b,
            resamples=resamples,
            seed=seed,
        )
        accuracy_interval = _percent(accuracy_range.low, accuracy_range.high)
        eer_interval = (eer_range.low, eer_range.high)
        tar_interval = {
            target: _percent(span.low, span.high)
            for target, span in zip(targets, tar_ranges, strict=True)
        }
    elif people_a is not None or people_b is not None:
        raise ValueError("the people of both pictures are needed, or of neither")
    return VerificationReport(
        accuracy=100 * accuracy.mean,
        accuracy_se=100 * accuracy.standard_error,
        accuracy_interval=accuracy_interval,
        tar_at_fmr={target: 100 * point.tar for target, point in points.items()},
        tar_interval=tar_interval,
        fmr_achieved={target: point.fmr for target, point in points.items()},
        allowed={target: point.allowed for target, point in points.items()},
        eer=equal_error_rate(genuine, impostor).rate,
        eer_interval=eer_interval,
        pairs=values.size,
        genuine=genuine.size,
        impostor=impostor.size,
        failed=int(np.count_nonzero(np.isneginf(values))),
        folds=len(accuracy.labels),
        people=people,
    )


def _check_people(
    people_a: Sequence[Hashable] | NDArray[np.generic],
    people_b: Sequence[Hashable] | NDArray[np.generic],
    same: BoolArray,
) -> int:
    count, (first, second) = person_indices(people_a, people_b)
    if first.shape != same.shape or second.shape != same.shape:
        raise ValueError(f"{same.size} pairs but {first.size} and {second.size} people")
    contradictions = np.flatnonzero((first == second) != same)
    if contradictions.size:
        raise ValueError(
            f"{contradictions.size} pairs are labelled against their people, first pair number "
            f"{contradictions[0]}"
        )
    return count
