import itertools
import math

import numpy as np
import pytest
from numpy.typing import NDArray

from models.evaluation.bootstrap import (
    ImpostorTail,
    TailExhaustedError,
    bootstrap_by_person,
    bootstrap_thresholds,
    pair_weights,
    person_indices,
    resampled_people,
)
from models.evaluation.rates import LOWEST_THRESHOLD, threshold_at_fmr

Floats = NDArray[np.float64]


def scores_of_images(people: NDArray[np.intp], seed: int) -> Floats:
    """Symmetric scores of images, in which some people are alike to everybody."""
    rng = np.random.default_rng(seed)
    effect = rng.normal(size=people.max() + 1)[people]
    noise = rng.normal(size=(people.size, people.size))
    scores: Floats = np.round(effect[:, None] + effect + noise + noise.T, 1)
    return scores


def tail_of(scores: Floats, people: NDArray[np.intp], length: int | None = None) -> ImpostorTail:
    row, column = np.nonzero(np.triu(people[:, None] != people, k=1))
    order = np.argsort(-scores[row, column])[:length]
    return ImpostorTail(
        scores=scores[row, column][order],
        person_a=people[row[order]],
        person_b=people[column[order]],
        images=np.bincount(people).astype(np.float64),
        complete=length is None or length >= row.size,
        sets=np.zeros(int(people.max()) + 1, np.intp),
    )


def copied_out(scores: Floats, people: NDArray[np.intp], multiplicity: Floats) -> list[float]:
    """Impostor scores of a resample, each person copied as often as drawn."""
    copies = [
        (image, person)
        for image, person in enumerate(people)
        for _ in range(int(multiplicity[person]))
    ]
    return [float(scores[a, b]) for (a, p), (b, q) in itertools.combinations(copies, 2) if p != q]


def test_weights_count_the_copies_of_a_pair() -> None:
    count, (first, second) = person_indices(["ann", "bob", "ann"], ["ann", "ann", "eve"])
    assert count == 3
    weights = pair_weights(np.array([3.0, 2.0, 0.0]), first, second)
    # ann with ann: once for each copy of her, not for each two copies.
    assert weights.tolist() == [3.0, 6.0, 0.0]


def test_a_resample_draws_as_many_people_as_there_are() -> None:
    draws = list(resampled_people(7, 50, seed=0))
    assert all(drawn.sum() == 7 for drawn in draws)
    assert len({tuple(drawn) for drawn in draws}) > 40
    again = list(resampled_people(7, 50, seed=0))
    np.testing.assert_array_equal(draws, again)


@pytest.mark.parametrize("target", [0.0, 0.01, 0.1, 0.5, 1.0])
def test_tail_of_a_resample_is_that_of_its_copies(target: float) -> None:
    people = np.array([0, 0, 1, 2, 2, 2, 3, 4, 4, 5])
    scores = scores_of_images(people, seed=2)
    tail = tail_of(scores, people)
    for multiplicity in resampled_people(6, 25, seed=3):
        impostor = copied_out(scores, people, multiplicity)
        assert tail.comparisons(multiplicity) == len(impostor)
        [threshold] = tail.thresholds([target], multiplicity)
        assert threshold == threshold_at_fmr(impostor, target)


def test_a_cut_tail_gives_the_same_or_says_that_it_is_too_short() -> None:
    people = np.repeat(np.arange(20), 4)
    scores = scores_of_images(people, seed=4)
    whole, cut = tail_of(scores, people), tail_of(scores, people, 800)
    expected = bootstrap_thresholds(whole, [0.01, 0.05], resamples=100, seed=5)
    assert bootstrap_thresholds(cut, [0.01, 0.05], resamples=100, seed=5) == expected
    with pytest.raises(TailExhaustedError):
        bootstrap_thresholds(cut, [0.26])


def test_complete_tail_with_failures_accepts_all_that_was_acquired() -> None:
    tail = ImpostorTail(
        scores=np.array([0.4]),
        person_a=np.array([0]),
        person_b=np.array([1]),
        images=np.array([2.0, 2.0]),
        complete=True,
        sets=np.zeros(2, np.intp),
    )
    assert tail.thresholds([0.0, 0.25]) == [math.nextafter(0.4, 1), LOWEST_THRESHOLD]


def test_interval_of_the_threshold_covers_the_truth() -> None:
    # The truth comes from a large population; each experiment sees 30 of its people.
    rng = np.random.default_rng(6)
    spread, target, covered, repeats = 0.5, 0.05, 0, 40
    sums = rng.normal(size=400_000) * math.sqrt(2 * spread**2 + 1)
    truth = threshold_at_fmr(sums, target)
    for repeat in range(repeats):
        effect = rng.normal(size=30) * spread
        people = np.repeat(np.arange(30), 2)
        noise = np.triu(rng.normal(size=(60, 60)), 1)
        scores = effect[people][:, None] + effect[people] + noise + noise.T
        [interval] = bootstrap_thresholds(
            tail_of(scores, people), [target], resamples=200, seed=repeat
        )
        assert interval.low <= interval.estimate <= interval.high
        covered += interval.low <= truth <= interval.high
    assert covered >= 0.85 * repeats


def few_people_experiment(seed: int) -> tuple[Floats, NDArray[np.intp]]:
    """Genuine scores of 15 people with 20 pairs each: mean 0, most of the variance by person."""
    rng = np.random.default_rng(seed)
    person = np.repeat(np.arange(15), 20)
    return rng.normal(size=15)[person] + 0.3 * rng.normal(size=person.size), person


def test_interval_of_a_mean_covers_the_truth_by_person_and_not_by_pair() -> None:
    by_person = by_pair = 0
    for seed in range(60):
        scores, person = few_people_experiment(seed)
        pairs = np.arange(scores.size)

        def mean(weights: Floats, scores: Floats = scores) -> float:
            return float(np.average(scores, weights=weights))

        [wide] = bootstrap_by_person(mean, person, person, resamples=200, seed=seed)
        [narrow] = bootstrap_by_person(mean, pairs, pairs, resamples=200, seed=seed)
        assert wide.high - wide.low > narrow.high - narrow.low
        by_person += wide.low <= 0 <= wide.high
        by_pair += narrow.low <= 0 <= narrow.high
    assert by_person >= 0.8 * 60
    assert by_pair < 0.5 * 60


def test_several_statistics_at_once_and_undefined_resamples() -> None:
    def statistic(weights: Floats) -> list[float]:
        return [weights.sum(), 1.0 if weights[0] > 0 else math.nan]

    total, defined = bootstrap_by_person(statistic, "abcd", "abcd", resamples=200, seed=1)
    assert (total.estimate, total.low, total.high, total.resamples) == (4, 4, 4, 200)
    assert 100 < defined.resamples < 180


def test_same_seed_same_interval() -> None:
    def share(weights: Floats) -> float:
        return float(weights[:3].sum() / weights.sum())

    people = ["a", "b", "c", "d", "e"]
    [first] = bootstrap_by_person(share, people, people, resamples=50, seed=9)
    [again] = bootstrap_by_person(share, people, people, resamples=50, seed=9)
    [other] = bootstrap_by_person(share, people, people, resamples=50, seed=10)
    assert first == again
    assert first != other


def test_what_cannot_be_resampled_is_refused() -> None:
    def nothing(_: Floats) -> float:
        return math.nan

    with pytest.raises(ValueError, match="undefined"):
        bootstrap_by_person(nothing, "ab", "ab", resamples=5)
    with pytest.raises(ValueError, match="comparisons"):
        bootstrap_by_person(nothing, "ab", "a")
    with pytest.raises(ValueError, match="resample"):
        bootstrap_by_person(nothing, "ab", "ab", resamples=0)
    with pytest.raises(ValueError, match="confidence"):
        bootstrap_by_person(nothing, "ab", "ab", confidence=95)
    no_one = np.empty(0, np.intp)
    alone = ImpostorTail(np.empty(0), no_one, no_one, np.ones(1), True, np.zeros(1, np.intp))
    with pytest.raises(ValueError, match="two people"):
        bootstrap_thresholds(alone, [0.1])
