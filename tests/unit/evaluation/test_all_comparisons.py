"""Rates at the thresholds of all comparisons, against the same by hand."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from models.evaluation import MatchRates, Pictures, match_rates, tar_at_fmr

PEOPLE = 40
FAILED = 0.1
Vectors = list[NDArray[np.float64] | None]


def pictures(rng: np.random.Generator, centres: NDArray[np.float64], count: int) -> Pictures:
    """Pictures of chance people, one in ten without a vector."""
    people = rng.integers(PEOPLE, size=count)
    vectors: Vectors = [
        None if rng.random() < FAILED else centres[who] + rng.normal(size=8) for who in people
    ]
    return Pictures([f"person {who}" for who in people], vectors)


def cosine(a: NDArray[np.float64] | None, b: NDArray[np.float64] | None) -> float:
    if a is None or b is None:
        return -np.inf
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def distance(a: NDArray[np.float64] | None, b: NDArray[np.float64] | None) -> float:
    return -np.inf if a is None or b is None else -float(np.linalg.norm(a - b))


class Case:
    """Two sides, and all scores by hand."""

    def __init__(self, seed: int, score: object = cosine) -> None:
        rng = np.random.default_rng(seed)
        centres = rng.normal(size=(PEOPLE, 8)) * 1.5
        self.first, self.second = pictures(rng, centres, 90), pictures(rng, centres, 70)
        self.genuine: list[float] = []
        self.people: list[str] = []
        self.impostor: list[float] = []
        for a, one in zip(self.first.people, self.first.vectors, strict=True):
            for b, other in zip(self.second.people, self.second.vectors, strict=True):
                value = score(one, other)  # type: ignore[operator]
                (self.genuine if a == b else self.impostor).append(value)
                if a == b:
                    self.people.append(str(a))

    def rates(self, **options: object) -> MatchRates:
        return match_rates(
            self.first,
            self.second,
            self.genuine,
            self.people,
            **{"targets": (1e-1, 1e-2), "resamples": 50, **options},  # type: ignore[arg-type]
        )


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_rates_are_those_by_hand(seed: int) -> None:
    case = Case(seed)
    found = case.rates()
    assert found.impostor_comparisons == len(case.impostor)
    for target in (1e-1, 1e-2):
        by_hand = 100 * tar_at_fmr(case.genuine, case.impostor, target).tar
        assert found.tar_at_fmr[target] == pytest.approx(by_hand)
        low, high = found.tar_interval[target]
        assert low < found.tar_at_fmr[target] < high
    assert found.tar_at_fmr[1e-2] < found.tar_at_fmr[1e-1]


def test_distances_are_compared_as_distances() -> None:
    case = Case(4, distance)
    found = case.rates(similarity="negative_euclidean")
    by_hand = 100 * tar_at_fmr(case.genuine, case.impostor, 1e-2).tar
    assert found.tar_at_fmr[1e-2] == pytest.approx(by_hand)
    assert found.tar_at_fmr[1e-2] != case.rates().tar_at_fmr[1e-2]


def test_neither_tiles_nor_a_short_tail_change_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(5)
    whole = case.rates()
    monkeypatch.setattr("models.evaluation.all_comparisons.TILE", 16)
    monkeypatch.setattr("models.evaluation.all_comparisons.TAIL_MARGIN", 1)
    monkeypatch.setattr("models.evaluation.all_comparisons.SHORTEST_TAIL", 1)
    assert case.rates() == whole


def test_an_interval_is_over_people_and_repeatable() -> None:
    case = Case(6)
    assert case.rates(seed=3) == case.rates(seed=3)
    assert case.rates(seed=3).tar_interval != case.rates(seed=4).tar_interval
    # One person's pictures four times over are no more people: the interval stays as wide.
    copied = Case(6)
    copied.first = Pictures(list(case.first.people) * 4, list(case.first.vectors) * 4)
    copied.genuine, copied.people = case.genuine * 4, case.people * 4
    wide, once = (one.rates(resamples=400).tar_interval[1e-1] for one in (copied, case))
    assert wide[1] - wide[0] == pytest.approx(once[1] - once[0], rel=0.15)


def test_a_picture_that_failed_is_compared_and_never_matches() -> None:
    case = Case(7)
    nobody: Vectors = [None] * len(case.first.vectors)
    case.first = Pictures(case.first.people, nobody)
    case.genuine = [-np.inf] * len(case.genuine)
    found = case.rates()
    assert found.impostor_comparisons == len(case.impostor)
    assert found.tar_at_fmr == {1e-1: 0.0, 1e-2: 0.0}


def test_what_cannot_be_rated_is_refused() -> None:
    case = Case(8)
    with pytest.raises(ValueError, match="genuine scores but"):
        match_rates(case.first, case.second, case.genuine, case.people[1:])
    with pytest.raises(ValueError, match="empty"):
        match_rates(case.first, case.second, [], [])
    with pytest.raises(ValueError, match="vectors but"):
        match_rates(Pictures(["a"], []), case.second, [0.5], ["a"])
    alone = Pictures(["a", "a"], [np.ones(4), np.ones(4)])
    with pytest.raises(ValueError, match="at least two people"):
        match_rates(alone, alone, [0.5], ["a"])
