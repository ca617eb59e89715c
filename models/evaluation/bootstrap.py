"""Confidence intervals by resampling people.

Comparisons that share a person are not independent, so intervals that resample comparisons come
out too narrow. Here people are drawn with replacement, as many as there are. A person drawn m
times counts m times: an impostor comparison weighs the product of the multiplicities of its two
people, a genuine comparison the multiplicity of its one person. Two copies of a person are never
compared with each other. Intervals are percentiles of the statistic over the resamples
(bootstrap over subjects, as ISO/IEC 19795-1 asks for dependent comparisons).
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.evaluation.rates import LOWEST_THRESHOLD, FloatArray, allowed_false_matches

IndexArray = NDArray[np.intp]


@dataclass(frozen=True)
class Interval:
    """A statistic with its bootstrap percentile interval.

    `resamples` counts those in which the statistic was defined; the others are left out.
    """

    estimate: float
    low: float
    high: float
    confidence: float
    resamples: int


class TailExhaustedError(ValueError):
    """A resample needs impostor scores below the lowest one kept in the tail."""


def person_indices(*columns: Iterable[Hashable]) -> tuple[int, tuple[IndexArray, ...]]:
    """Number the people of several columns 0..P-1 in order of first appearance.

    Returns:
        P, and for each column its numbers, shape (len(column),).
    """
    numbers: dict[Hashable, int] = {}
    coded = tuple(
        np.array([numbers.setdefault(name, len(numbers)) for name in column], dtype=np.intp)
        for column in columns
    )
    return len(numbers), coded


def resampled_people(count: int, resamples: int, seed: int) -> Iterator[FloatArray]:
    """Draw `count` people with replacement, `resamples` times.

    Yields:
        How often each person was drawn, shape (count,), whole numbers that sum to `count`.
    """
    rng = np.random.default_rng(seed)
    for _ in range(resamples):
        drawn = rng.integers(count, size=count)
        yield np.bincount(drawn, minlength=count).astype(np.float64)


def pair_weights(
    multiplicity: FloatArray, person_a: IndexArray, person_b: IndexArray
) -> FloatArray:
    """Return the weight (N,) of comparisons when person p counts ``multiplicity[p]`` times.

    Args:
        multiplicity: shape (P,).
        person_a: person of the first sample, shape (N,), in 0..P-1.
        person_b: person of the second sample, shape (N,); equal to `person_a` when genuine.
    """
    weights = multiplicity[person_a]
    return np.where(person_a == person_b, weights, weights * multiplicity[person_b])


def _interval(estimate: float, values: FloatArray, confidence: float) -> Interval:
    defined = values[~np.isnan(values)]
    if defined.size == 0:
        raise ValueError("the statistic is undefined in every resample: too few people")
    low, high = np.quantile(defined, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(estimate, float(low), float(high), confidence, defined.size)


def _intervals(estimates: Iterable[float], values: FloatArray, confidence: float) -> list[Interval]:
    """One interval per estimate (S,), from its column of the resamples' `values` (R, S)."""
    return [
        _interval(float(estimate), values[:, column], confidence)
        for column, estimate in enumerate(estimates)
    ]


def _check_options(resamples: int, confidence: float) -> None:
    if resamples < 1:
        raise ValueError("at least one resample is needed")
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"a confidence lies in (0, 1), not {confidence}")


def bootstrap_by_person(
    statistic: Callable[[FloatArray], ArrayLike],
    people_a: Sequence[Hashable] | NDArray[np.generic],
    people_b: Sequence[Hashable] | NDArray[np.generic],
    *,
    resamples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> list[Interval]:
    """Bootstrap statistics of a list of N comparisons over the people in it.

    Args:
        statistic: takes the weights of the comparisons, float64 (N,), and returns one number or
            several (S,). NaN says that it is undefined under these weights. With weights of one
            it must give the estimate.
        people_a: who the first sample shows, N names.
        people_b: who the second sample shows, N names; the same name makes a comparison genuine.
        resamples: how many draws of people.
        seed: makes the result repeatable.
        confidence: coverage of the intervals, in (0, 1).

    Returns:
        One interval per number of the statistic.

    Raises:
        ValueError: lengths differ or are zero, options are out of range, or the statistic is
            undefined in every resample.
    """
    _check_options(resamples, confidence)
    count, (first, second) = person_indices(people_a, people_b)
    if first.size != second.size or first.size == 0:
        raise ValueError(f"comparisons of {first.size} with {second.size} people")
    estimates = np.atleast_1d(np.asarray(statistic(np.ones(first.size)), dtype=np.float64))
    values = np.empty((resamples, estimates.size))
    for row, multiplicity in enumerate(resampled_people(count, resamples, seed)):
        values[row] = statistic(pair_weights(multiplicity, first, second))
    return _intervals(estimates, values, confidence)


@dataclass(frozen=True)
class ImpostorTail:
    """The largest impostor scores among all cross-person comparisons of a set of images.

    `scores` (M,) descends and is finite; `person_a` and `person_b` (M,) number the two people in
    0..P-1; `images` (P,) counts the images of each. `complete` says that no finite score is
    missing, which is so for a tail that was not cut. `sets` (P,) numbers the set of images that
    each person belongs to: comparisons across sets do not take part.
    """

    scores: FloatArray
    person_a: IndexArray
    person_b: IndexArray
    images: FloatArray
    complete: bool
    sets: IndexArray

    def comparisons(self, multiplicity: FloatArray | None = None) -> float:
        """Return the number of cross-person comparisons, each person counted so many times (P,).

        Within a set, pairs of images of different people are all pairs less those within a
        person: ((sum m n)^2 - sum (m n)^2) / 2, exact in float64 up to 2**53.
        """
        counted = self.images if multiplicity is None else self.images * multiplicity
        in_sets = np.bincount(self.sets, weights=counted)
        return float((in_sets**2).sum() - (counted**2).sum()) / 2

    def thresholds(
        self, targets: Sequence[float], multiplicity: FloatArray | None = None
    ) -> list[float]:
        """Return the smallest threshold for each target FMR, exact (see `threshold_at_fmr`).

        NaN when the people drawn leave no comparison.

        Raises:
            TailExhaustedError: the tail is too short for a target.
            ValueError: a target lies outside [0, 1].
        """
        total = self.comparisons(multiplicity)
        if total == 0:
            return [float("nan")] * len(targets)
        if multiplicity is None:
            matches = np.arange(1.0, self.scores.size + 1)
        else:
            weights = np.take(multiplicity, self.person_a)
            weights *= np.take(multiplicity, self.person_b)
            matches = np.cumsum(weights, out=weights)
        return [self._first_beyond(matches, target, total) for target in targets]

    def _first_beyond(self, matches: FloatArray, target: float, total: float) -> float:
        """Threshold just above the score at which the weight of the matches is first too much."""
        allowed = allowed_false_matches(target, total)
        # The first excess falls on the score that must be rejected, wherever in its ties it is.
        index = int(np.searchsorted(matches, allowed, side="right"))
        if index < self.scores.size:
            return float(np.nextafter(self.scores[index], np.inf))
        if self.complete:
            return LOWEST_THRESHOLD
        raise TailExhaustedError(f"{self.scores.size} scores are too few for an FMR of {target}")


@dataclass(frozen=True)
class CrossTail(ImpostorTail):
    """The same for first images that are compared with second ones, and not among themselves.

    `images` counts the first images of each person, `seconds` (P,) the second ones; `sets` is of
    one set.
    """

    seconds: FloatArray

    def comparisons(self, multiplicity: FloatArray | None = None) -> float:
        """Return the number of comparisons of a first with another person's second image."""
        drawn = np.ones_like(self.images) if multiplicity is None else multiplicity
        first, second = self.images * drawn, self.seconds * drawn
        return float(first.sum() * second.sum() - (first * second).sum())


def bootstrap_match_rates(
    tail: ImpostorTail,
    genuine: FloatArray,
    person: IndexArray,
    targets: Sequence[float],
    *,
    resamples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> list[Interval]:
    """Bootstrap true match rates at the thresholds for target FMRs over the people behind both.

    Args:
        tail: as for `bootstrap_thresholds`.
        genuine: scores of genuine comparisons, shape (G,); ``-inf`` where acquisition failed.
        person: of each, shape (G,), numbered as in the tail.
        targets: FMRs in [0, 1].
        resamples: how many draws of people.
        seed: makes the result repeatable.
        confidence: coverage of the intervals, in (0, 1).

    Returns:
        One interval per target, of fractions in [0, 1].

    Raises:
        TailExhaustedError: a resample needs more of the tail; retry with a longer one.
        ValueError: an option or a target is out of range, or there is no comparison of a kind.
    """
    _check_options(resamples, confidence)
    if tail.comparisons() == 0 or genuine.size == 0:
        raise ValueError("a rate needs genuine and cross-person comparisons")

    def rates(multiplicity: FloatArray) -> list[float]:
        thresholds = tail.thresholds(targets, multiplicity)
        weights = multiplicity[person]
        total = float(weights.sum())
        if total == 0:
            return [float("nan")] * len(targets)
        return [
            float("nan") if np.isnan(one) else float(weights[genuine >= one].sum()) / total
            for one in thresholds
        ]

    people = tail.images.size
    estimates = rates(np.ones(people))
    values = np.array([rates(drawn) for drawn in resampled_people(people, resamples, seed)])
    return _intervals(estimates, values, confidence)


def bootstrap_thresholds(
    tail: ImpostorTail,
    targets: Sequence[float],
    *,
    resamples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> list[Interval]:
    """Bootstrap the thresholds for target FMRs over the people behind an impostor tail.

    Args:
        tail: several times as many scores as the largest target allows false matches.
        targets: FMRs in [0, 1].
        resamples: how many draws of people.
        seed: makes the result repeatable.
        confidence: coverage of the intervals, in (0, 1).

    Returns:
        One interval of the threshold per target. With few people it is rough: draws without two
        different people are left out.

    Raises:
        TailExhaustedError: a resample needs more of the tail; retry with a longer one.
        ValueError: an option or a target is out of range, or there is no comparison.
    """
    _check_options(resamples, confidence)
    if tail.comparisons() == 0:
        raise ValueError("no cross-person comparison: the images show fewer than two people")
    estimates = tail.thresholds(targets)
    draws = resampled_people(tail.images.size, resamples, seed)
    values = np.array([tail.thresholds(targets, drawn) for drawn in draws])
    return _intervals(estimates, values, confidence)
