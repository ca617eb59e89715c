"""Who a probe shows: thresholds for a gallery's size, and when two are too much alike."""

import math

import numpy as np
import pytest

from services.gallery import Candidate
from services.gallery.identify import (
    FittedRate,
    Identity,
    fmr_for,
    identification_point,
    identify,
)

CARD = [FittedRate(1e-2, 0.30), FittedRate(1e-3, 0.37), FittedRate(1e-4, 0.43)]


def test_a_larger_gallery_needs_a_stricter_threshold() -> None:
    sizes = (1, 10, 100, 10_000, 1_000_000)
    thresholds = [identification_point(CARD, 0.01, size, 1.0).threshold for size in sizes]
    assert thresholds == sorted(thresholds)
    assert len(set(thresholds)) == len(sizes)


@pytest.mark.parametrize(("fpir", "size"), [(0.01, 1), (0.1, 7), (0.5, 1000), (1e-3, 10**6)])
def test_the_rate_of_one_comparison_adds_up_to_the_rate_that_was_asked_for(
    fpir: float, size: int
) -> None:
    assert -math.expm1(size * math.log1p(-fmr_for(fpir, size))) == pytest.approx(fpir, rel=1e-9)


def test_strangers_are_taken_for_somebody_as_often_as_was_asked() -> None:
    rng = np.random.default_rng(0)
    size, tries, fpir = 50, 20_000, 0.05
    scale = 0.07 / math.log(10)  # an exponential tail, whose thresholds rise 0.07 a decade
    fitted = [FittedRate(10.0**-power, 0.07 * power) for power in (1, 2, 3)]
    point = identification_point(fitted, fpir, size, 1.0)
    highest = rng.exponential(scale, (tries, size)).max(axis=1)
    assert not point.extrapolated or point.decades < 0.1
    assert np.mean(highest >= point.threshold) == pytest.approx(fpir, abs=0.008)


def test_fitted_thresholds_are_used_as_they_are() -> None:
    for one in CARD:
        point = identification_point(CARD, one.fmr, 1, 1.0)
        assert point.threshold == pytest.approx(one.similarity)
        assert point.fitted_fmr == one.fmr
        assert not point.extrapolated


def test_between_two_fitted_rates_the_threshold_lies_between_theirs() -> None:
    point = identification_point(CARD, 10**-2.5, 1, 1.0)
    assert point.threshold == pytest.approx(0.335)
    assert point.fitted_fmr == 1e-2


def test_beyond_the_fitted_rates_it_is_said_how_far_and_the_steepest_step_is_taken() -> None:
    point = identification_point(CARD, 0.01, 100_000, 1.0)
    assert point.fmr == pytest.approx(1e-7, rel=0.01)
    assert point.decades == pytest.approx(3.0, abs=0.01)
    assert point.fitted_fmr == 1e-4
    assert point.threshold == pytest.approx(0.43 + 3 * 0.07, abs=0.001)


def test_a_looser_rate_than_any_fitted_gets_the_loosest_fitted_threshold() -> None:
    point = identification_point(CARD, 0.5, 1, 1.0)
    assert (point.threshold, point.fitted_fmr, point.extrapolated) == (0.30, 1e-2, False)


@pytest.mark.parametrize(
    "fitted", [[], CARD[:1], [FittedRate(1e-2, 0.4), FittedRate(1e-3, 0.3)], [CARD[0], CARD[0]]]
)
def test_too_few_or_senseless_thresholds_are_refused(fitted: list[FittedRate]) -> None:
    with pytest.raises(ValueError, match=r"threshold|Threshold"):
        identification_point(fitted, 0.01, 10, 1.0)


@pytest.mark.parametrize(("fpir", "size"), [(0.0, 1), (1.0, 1), (math.nan, 1), (0.1, -1)])
def test_senseless_rates_are_refused(fpir: float, size: int) -> None:
    with pytest.raises(ValueError, match="FPIR"):
        fmr_for(fpir, size)


POINT = identification_point(CARD, 1e-3, 1, 1.0)  # threshold 0.37, margin 0.07


def candidates(*pairs: tuple[str, float]) -> list[Candidate]:
    return [Candidate(name, f"{name}-{index}", value) for index, (name, value) in enumerate(pairs)]


@pytest.mark.parametrize(
    ("found", "identity", "who"),
    [
        ([], Identity.UNKNOWN, None),
        ([("ann", 0.369)], Identity.UNKNOWN, None),
        ([("ann", 0.371)], Identity.KNOWN, "ann"),
        ([("ann", 0.60), ("bob", 0.52)], Identity.KNOWN, "ann"),
        ([("ann", 0.60), ("bob", 0.54)], Identity.AMBIGUOUS, None),
        ([("ann", 0.40), ("bob", 0.36)], Identity.AMBIGUOUS, None),
        ([("ann", 0.36), ("bob", 0.35)], Identity.UNKNOWN, None),
        ([("ann", 0.60), ("ann", 0.59), ("bob", 0.40)], Identity.KNOWN, "ann"),
    ],
)
def test_the_decision_follows_from_threshold_and_margin(
    found: list[tuple[str, float]], identity: Identity, who: str | None
) -> None:
    answer = identify(candidates(*found), {"": POINT})
    assert (answer.identity, answer.subject_id) == (identity, who)


def test_a_subject_is_shown_once_by_its_best_template() -> None:
    answer = identify(candidates(("bob", 0.2), ("ann", 0.4), ("ann", 0.6)), {"": POINT})
    assert [one.subject_id for one in answer.candidates] == ["ann", "bob"]
    assert answer.candidates[0].similarity == 0.6
    assert answer.margin == pytest.approx(0.4)


def test_mapped_templates_are_judged_by_thresholds_of_their_own() -> None:
    harder = identification_point([FittedRate(1e-2, 0.50), FittedRate(1e-3, 0.60)], 1e-3, 1, 1.0)
    mapped, native = Candidate("ann", "a", 0.58, map="m@1"), Candidate("bob", "b", 0.45)
    answer = identify([mapped, native], {"": POINT, "m@1": harder})
    assert (answer.identity, answer.subject_id) == (Identity.KNOWN, "bob")
    assert [one.subject_id for one in answer.candidates] == ["bob", "ann"]


def test_templates_of_a_map_without_thresholds_decide_nothing() -> None:
    answer = identify([Candidate("ann", "a", 0.99, map="m@1")], {"": POINT})
    assert answer.identity is Identity.UNKNOWN
    assert answer.candidates == ()
