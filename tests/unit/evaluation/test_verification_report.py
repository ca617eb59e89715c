import math

import numpy as np
import pytest
from numpy.typing import NDArray

from models.evaluation.folds import fold_accuracy
from models.evaluation.rates import equal_error_rate, tar_at_fmr
from models.evaluation.verification import VerificationReport, evaluate_pairs

FOLDS = np.repeat(np.arange(5), 80)
SAME = np.tile(np.repeat([True, False], 40), 5)


def people_of_pairs(people: int, seed: int = 0) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    rng = np.random.default_rng(seed)
    first = rng.integers(0, people, SAME.size)
    other = (first + rng.integers(1, people, SAME.size)) % people
    return first, np.where(SAME, first, other)


def pair_scores(seed: int = 0) -> NDArray[np.float64]:
    scores: NDArray[np.float64] = np.random.default_rng(seed).normal(size=SAME.size) + 2.0 * SAME
    return scores


def evaluate(people: int, scores: NDArray[np.float64]) -> VerificationReport:
    return evaluate_pairs(scores, SAME, FOLDS, *people_of_pairs(people), resamples=100)


def test_figures_are_those_of_their_definitions() -> None:
    scores = pair_scores()
    scores[[0, 50]] = -math.inf
    report = evaluate_pairs(scores, SAME, FOLDS)
    folds = fold_accuracy(scores, SAME, FOLDS)
    assert report.accuracy == pytest.approx(100 * folds.mean)
    assert report.accuracy_se == pytest.approx(100 * folds.standard_error)
    for target in (0.01, 0.001):
        point = tar_at_fmr(scores[SAME], scores[~SAME], target)
        assert report.tar_at_fmr[target] == pytest.approx(100 * point.tar)
        assert report.fmr_achieved[target] == point.fmr
    assert report.allowed == {0.01: 2, 0.001: 0}
    assert report.eer == equal_error_rate(scores[SAME], scores[~SAME]).rate
    assert (report.pairs, report.genuine, report.impostor) == (400, 200, 200)
    assert (report.failed, report.folds, report.people) == (2, 5, None)
    assert report.accuracy_interval is None
    assert report.eer_interval is None
    assert report.tar_interval == {}


def test_intervals_hold_the_figures() -> None:
    report = evaluate(120, pair_scores())
    assert report.people == 120
    assert report.accuracy_interval is not None
    assert report.eer_interval is not None
    low, high = report.accuracy_interval
    assert 70 < low < report.accuracy < high <= 100
    low, high = report.eer_interval
    assert 0 <= low < report.eer < high < 0.3
    for target, (low, high) in report.tar_interval.items():
        assert 0 <= low <= report.tar_at_fmr[target] <= high <= 100


def test_people_differing_in_difficulty_widen_the_interval() -> None:
    first, second = people_of_pairs(12)
    effect = np.random.default_rng(1).normal(size=12)
    scores = pair_scores() + 2 * effect[first] * SAME
    pairs = np.arange(SAME.size)
    by_person = evaluate_pairs(scores, SAME, FOLDS, first, second, resamples=100)
    by_pair = evaluate_pairs(
        scores, SAME, FOLDS, pairs, np.where(SAME, pairs, pairs + SAME.size), resamples=100
    )
    assert by_person.tar_at_fmr == by_pair.tar_at_fmr
    assert by_person.eer_interval is not None
    assert by_pair.eer_interval is not None
    assert np.diff(by_person.eer_interval) > np.diff(by_pair.eer_interval)


def test_perfect_scores() -> None:
    report = evaluate(60, SAME.astype(float))
    assert (report.accuracy, report.accuracy_se, report.eer) == (100, 0, 0)
    assert report.accuracy_interval == pytest.approx((100, 100))
    assert report.eer_interval == pytest.approx((0, 0))
    assert report.tar_interval == {0.01: (100, 100), 0.001: (100, 100)}


def test_all_failed_is_a_figure_and_not_an_error() -> None:
    report = evaluate(60, np.full(SAME.size, -math.inf))
    assert report.accuracy == 50
    assert report.tar_at_fmr == {0.01: 0, 0.001: 0}
    assert report.failed == 400


def test_contradictions_are_refused() -> None:
    scores = pair_scores()
    first, second = people_of_pairs(50)
    with pytest.raises(ValueError, match="labelled against their people, first pair number 0"):
        evaluate_pairs(scores, ~SAME, FOLDS, first, second)
    with pytest.raises(ValueError, match="both pictures"):
        evaluate_pairs(scores, SAME, FOLDS, first)
    with pytest.raises(ValueError, match="people"):
        evaluate_pairs(scores, SAME, FOLDS, first[:9], second)
    with pytest.raises(ValueError, match="labels"):
        evaluate_pairs(scores, SAME[:9], FOLDS)
    with pytest.raises(ValueError, match="one kind of pair"):
        evaluate_pairs(scores, SAME | True, FOLDS)
