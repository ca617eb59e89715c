"""When looks add up to a decision."""

import numpy as np
import pytest

from services.cameras.messages import Why
from services.cameras.verdict import PER_LOOK, STRONG, Verdict
from services.settings import CameraSettings, GallerySettings
from tests.unit.cameras.people import look


def test_one_strong_look_is_enough() -> None:
    verdict = Verdict()
    assert verdict.take(look("a", strong=True))
    assert (verdict.subject_id, verdict.decided, verdict.why()) == ("a", True, None)


def test_a_look_at_the_usual_rate_needs_a_second_that_agrees() -> None:
    verdict = Verdict()
    assert not verdict.take(look("a"))
    assert not verdict.decided
    assert verdict.why() is Why.NOT_CONFIRMED
    assert verdict.take(look("a"))
    assert verdict.subject_id == "a"


def test_looks_that_name_different_people_or_nobody_between_do_not_agree() -> None:
    verdict = Verdict()
    for one in (look("a"), look("b"), look("a"), look(), look("a")):
        verdict.take(one)
        assert verdict.subject_id == ""


def test_two_looks_without_a_match_are_nobody() -> None:
    verdict = Verdict()
    assert not verdict.take(look())
    assert verdict.take(look())
    assert (verdict.decided, verdict.subject_id, verdict.why()) == (True, "", Why.NO_MATCH)


def test_what_was_decided_is_changed_by_two_looks_only_however_strong() -> None:
    verdict = Verdict()
    verdict.take(look())
    verdict.take(look())
    assert not verdict.take(look("a", strong=True))
    assert verdict.take(look("a", strong=True))
    assert not verdict.take(look("b", strong=True))
    assert verdict.subject_id == "a"
    assert not verdict.take(look("a"))
    assert verdict.subject_id == "a"


def test_who_resembles_two_is_told_so() -> None:
    verdict = Verdict()
    verdict.take(look(ambiguous=True))
    verdict.take(look(ambiguous=True))
    assert verdict.why() is Why.AMBIGUOUS


@pytest.mark.parametrize("shared", [0.0, 0.5, 0.8, 0.95, 1.0])
def test_strangers_are_named_no_more_often_than_the_stated_rate(shared: float) -> None:
    # Scores of looks that resemble each other as much as `shared`.
    fpir, looks, strangers = GallerySettings().fpir, CameraSettings().max_looks, 100_000
    draw = np.random.default_rng(3)
    common = draw.normal(size=(strangers, 1))
    own = draw.normal(size=(strangers, looks))
    scores = np.sqrt(shared) * common + np.sqrt(1 - shared) * own
    ordered = np.sort(draw.normal(size=2_000_000))
    rates = (fpir * PER_LOOK, fpir * PER_LOOK * STRONG)
    usual, strict = (ordered[-int(len(ordered) * rate)] for rate in rates)
    named = 0
    for row in scores[(scores >= usual).any(axis=1)]:
        verdict = Verdict()
        for score in row:
            verdict.take(look("x" if score >= usual else "", strong=score >= strict))
            if verdict.subject_id:
                named += 1
                break
    assert named / strangers <= fpir * 1.02  # what chance adds
