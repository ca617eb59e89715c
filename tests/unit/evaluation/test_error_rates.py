import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.evaluation.rates import (
    LOWEST_THRESHOLD,
    allowed_false_matches,
    equal_error_rate,
    error_curve,
    false_match_rate,
    false_non_match_rate,
    tar_at_fmr,
    threshold_at_fmr,
)

GENUINE = [0.9, 0.8, 0.4]
IMPOSTOR = [0.5, 0.3, 0.2, 0.1]
FAILED = -math.inf

# Few distinct values, so that ties and failures are common.
scores = st.lists(
    st.one_of(st.sampled_from([FAILED, -1.0, 0.0, 0.25, 0.5]), st.floats(-1, 1)),
    min_size=1,
    max_size=30,
)


def naive_fmr(impostor: list[float], threshold: float) -> float:
    return sum(1 for s in impostor if s >= threshold and s != FAILED) / len(impostor)


def test_worked_example_of_rates() -> None:
    assert false_match_rate(IMPOSTOR, 0.5) == 1 / 4
    assert false_non_match_rate(GENUINE, 0.5) == pytest.approx(1 / 3)
    assert false_match_rate(IMPOSTOR, 0.51) == 0
    assert false_non_match_rate(GENUINE, 0.51) == pytest.approx(1 / 3)


def test_worked_example_without_false_matches() -> None:
    point = tar_at_fmr(GENUINE, IMPOSTOR, 0.0)
    assert point.tar == pytest.approx(2 / 3)
    assert point.fmr == 0
    assert (point.allowed, point.impostor_comparisons, point.genuine_comparisons) == (0, 4, 3)
    assert point.threshold == math.nextafter(0.5, 1)


def test_worked_example_with_one_false_match() -> None:
    point = tar_at_fmr(GENUINE, IMPOSTOR, 0.25)
    assert (point.tar, point.fmr, point.allowed) == (1.0, 0.25, 1)
    assert point.threshold == math.nextafter(0.3, 1)


def test_squared_distance_is_a_cosine_threshold() -> None:
    cosine, angle = 0.7, math.acos(0.7)
    squared = (1 - math.cos(angle)) ** 2 + math.sin(angle) ** 2
    assert squared == pytest.approx(0.6)
    assert 1 - squared / 2 == pytest.approx(cosine)


def test_ties_count_against_us() -> None:
    # One false match is allowed, but accepting 0.5 would make two.
    assert threshold_at_fmr([0.5, 0.5, 0.1, 0.0], 0.25) == math.nextafter(0.5, 1)
    assert tar_at_fmr([0.5], [0.5, 0.5, 0.1, 0.0], 0.25).fmr == 0


def test_whole_targets_do_not_lose_a_match_to_rounding() -> None:
    for count in range(1, 300):
        for allowed in range(count + 1):
            assert allowed_false_matches(allowed / count, count) == allowed


@settings(deadline=None)
@given(scores, st.floats(0, 1))
def test_threshold_is_the_smallest_that_keeps_the_target(
    impostor: list[float], target: float
) -> None:
    threshold = threshold_at_fmr(impostor, target)
    assert math.isfinite(threshold)
    assert false_match_rate(impostor, threshold) == naive_fmr(impostor, threshold)
    assert naive_fmr(impostor, threshold) <= target
    if threshold > LOWEST_THRESHOLD:
        assert naive_fmr(impostor, math.nextafter(threshold, -math.inf)) > target


@settings(deadline=None)
@given(scores, scores, st.floats(0, 1))
def test_curve_agrees_with_direct_counts(
    genuine: list[float], impostor: list[float], target: float
) -> None:
    curve = error_curve(genuine, impostor)
    assert curve.thresholds[0] == math.inf
    assert (np.diff(curve.thresholds) < 0).all()
    for threshold, fmr, fnmr in zip(curve.thresholds, curve.fmr, curve.fnmr, strict=True):
        assert fmr == pytest.approx(false_match_rate(impostor, threshold))
        assert fnmr == pytest.approx(false_non_match_rate(genuine, threshold))
    point = tar_at_fmr(genuine, impostor, target)
    assert 1 - curve.fnmr[curve.index_at_fmr(target)] == pytest.approx(point.tar)


@settings(deadline=None)
@given(scores, scores)
def test_equal_error_rate_is_the_closest_operating_point(
    genuine: list[float], impostor: list[float]
) -> None:
    result = equal_error_rate(genuine, impostor)
    tried = [math.inf, *(s for s in genuine + impostor if s != FAILED)]
    gaps = [abs(false_match_rate(impostor, t) - false_non_match_rate(genuine, t)) for t in tried]
    assert abs(result.fmr - result.fnmr) == pytest.approx(min(gaps))
    assert result.fmr == pytest.approx(false_match_rate(impostor, result.threshold))
    assert result.fnmr == pytest.approx(false_non_match_rate(genuine, result.threshold))
    assert result.rate == pytest.approx((result.fmr + result.fnmr) / 2)


def test_equal_error_rate_of_known_lists() -> None:
    assert equal_error_rate(GENUINE, IMPOSTOR).rate == pytest.approx((1 / 4 + 1 / 3) / 2)
    assert equal_error_rate([0.9, 0.8], [0.2, 0.1]).rate == 0
    assert equal_error_rate([0.1, 0.2], [0.8, 0.9]).rate == 1
    assert equal_error_rate([0.5], [0.5]).rate == 0.5


def test_failed_genuine_comparisons_raise_the_error_floor() -> None:
    # Three of ten never match; the rest are far apart from the impostors.
    result = equal_error_rate([FAILED] * 3 + [0.9] * 7, [0.1] * 8 + [0.95] * 2)
    assert result.fmr == pytest.approx(0.2)
    assert result.fnmr == pytest.approx(0.3)


def test_failures_can_keep_the_rates_apart() -> None:
    result = equal_error_rate([FAILED, 0.9], [FAILED, FAILED, FAILED, 0.1])
    assert (result.fmr, result.fnmr, result.rate) == (0.25, 0.5, 0.375)


def test_everything_failed() -> None:
    point = tar_at_fmr([FAILED, FAILED], [FAILED], 0.0)
    assert (point.tar, point.fmr, point.threshold) == (0.0, 0.0, LOWEST_THRESHOLD)
    assert equal_error_rate([FAILED], [FAILED]).rate == 0.5


@pytest.mark.parametrize("threshold", [-math.inf, LOWEST_THRESHOLD, 0.0])
def test_failed_acquisition_matches_at_no_threshold(threshold: float) -> None:
    assert false_match_rate([FAILED, FAILED], threshold) == 0
    assert false_non_match_rate([FAILED], threshold) == 1


def test_allowing_every_false_match_accepts_all_that_was_acquired() -> None:
    threshold = threshold_at_fmr([0.3, -5.0, FAILED], 1.0)
    assert false_match_rate([0.3, -5.0, FAILED], threshold) == pytest.approx(2 / 3)


@pytest.mark.parametrize("bad", [[], [math.nan], [math.inf], [[0.1]], [0.2, math.nan]])
def test_what_is_not_a_list_of_scores_is_refused(bad: list[float]) -> None:
    with pytest.raises(ValueError, match="impostor"):
        threshold_at_fmr(bad, 0.1)
    with pytest.raises(ValueError, match="impostor"):
        tar_at_fmr(GENUINE, bad, 0.1)
    with pytest.raises(ValueError, match="genuine"):
        equal_error_rate(bad, IMPOSTOR)


@pytest.mark.parametrize("target", [-0.1, 1.1, math.nan])
def test_targets_outside_the_unit_interval_are_refused(target: float) -> None:
    with pytest.raises(ValueError, match="target"):
        threshold_at_fmr(IMPOSTOR, target)


def test_nan_threshold_is_refused() -> None:
    with pytest.raises(ValueError, match="NaN"):
        false_match_rate(IMPOSTOR, math.nan)
