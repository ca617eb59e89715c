import numpy as np
import pytest

from models.r3an.verdict import Rejections, decide, verdict_text


def failing(share: float, gallery: np.ndarray) -> Rejections:
    """The first so many comparisons fail."""
    return Rejections(np.arange(len(gallery)) < share * len(gallery), gallery)


GALLERY = np.arange(1000)
TRUST = np.linspace(0.2, 0.9, 1000).astype(np.float32)


@pytest.mark.parametrize(
    ("live", "answer", "fnmr", "weak"),
    [
        (0.05, "migrate", 0.05, 0.0),
        (0.07, "migrate", 0.07, 0.0),
        (0.15, "migrate with re-enrolment of the weak", 0.06, 0.1),
        (0.60, "re-enrol", 0.01, 1.0),
    ],
)
def test_the_answer_depends_on_how_many_more_would_be_refused(
    live: float, answer: str, fnmr: float, weak: float
) -> None:
    found = decide(
        failing(live, GALLERY), failing(0.05, GALLERY), failing(0.01, GALLERY), TRUST, 1e-3
    )
    assert found.answer == answer
    assert found.fnmr == pytest.approx(fnmr, abs=1e-3)
    assert found.weak == weak
    assert found.fnmr_migrated == pytest.approx(live)
    assert answer in verdict_text(found)


def test_a_confidence_that_says_nothing_cannot_save_a_migration() -> None:
    wrong_way = TRUST[::-1].copy()
    found = decide(
        failing(0.15, GALLERY), failing(0.05, GALLERY), failing(0.0, GALLERY), wrong_way, 1e-3
    )
    assert found.answer == "re-enrol"


def test_the_text_names_the_confidence_below_which_people_enrol_again() -> None:
    found = decide(
        failing(0.12, GALLERY), failing(0.05, GALLERY), failing(0.0, GALLERY), TRUST, 1e-3
    )
    assert found.confidence == pytest.approx(np.quantile(TRUST, found.weak))
    assert f"below {found.confidence:.3f}" in verdict_text(found)


def test_a_migration_need_not_be_better_than_enrolling_again() -> None:
    live, source, target = (failing(share, GALLERY) for share in (0.11, 0.03, 0.10))
    assert decide(live, source, target, TRUST, 1e-3).answer == "migrate"
    far = failing(0.5, GALLERY)
    assert decide(far, source, target, TRUST, 1e-3).answer == "re-enrol"
