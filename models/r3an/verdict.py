"""What to do with a gallery of the source model: migrate it, in part, or enrol anew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from models.evaluation.rates import threshold_at_fmr
from models.r3an.arrays import Floats
from models.r3an.protocol import Condition, Subjects, compared, mated

Answer = Literal["migrate", "migrate with re-enrolment of the weak", "re-enrol"]

TOLERANCE = 0.02
"""More genuine comparisons may fail after a migration than otherwise would, by this share."""

WEAK_SHARES = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3)
"""Shares of a gallery that may be asked to enrol again; more would be a re-enrolment."""


@dataclass(frozen=True)
class Verdict:
    """The answer, and what it rests on; rates in [0,1].

    Attributes:
        answer: what to do.
        fmr: the live false-match rate.
        fnmr: expected after what the answer says, new probes against what is left of the gallery.
        fnmr_migrated: if everything is migrated.
        fnmr_source: of the source model before.
        fnmr_target: of the target model, as after everybody has enrolled anew.
        weak: share to enrol again.
        confidence: least confidence of what is migrated; None where everything is.
    """

    answer: Answer
    fmr: float
    fnmr: float
    fnmr_migrated: float
    fnmr_source: float
    fnmr_target: float
    weak: float
    confidence: float | None


@dataclass(frozen=True)
class Rejections:
    """Genuine comparisons of a condition at a threshold fitted on other people.

    Attributes:
        rejected: (P,) whether each fails.
        gallery: (P,) the gallery's face in each.
    """

    rejected: np.ndarray
    gallery: np.ndarray


def rejections(
    calibration: tuple[Condition, Subjects], judged: tuple[Condition, Subjects], fmr: float
) -> Rejections:
    """Which genuine comparisons fail at a false-match rate."""
    _, impostors = compared(*calibration)
    condition, subjects = judged
    threshold = threshold_at_fmr(impostors, fmr)
    first, second = mated(subjects.person)
    scores = np.einsum("pd,pd->p", condition.probe[first], condition.gallery[second])
    return Rejections(scores < threshold, second)


def decide(
    live: Rejections,
    source: Rejections,
    target: Rejections,
    confidence: Floats,
    fmr: float,
    tolerance: float = TOLERANCE,
    shares: Sequence[float] = WEAK_SHARES,
) -> Verdict:
    """The verdict.

    Migration is right where new probes against the migrated gallery fail no more often than the
    source model's own comparisons did, or than the target's would if everybody enrolled again,
    whichever is more, give or take the tolerance. Where that takes leaving out the least trusted
    vectors, their people enrol again: their comparisons then fail as often as the target's own.

    Args:
        live: of new probes against the migrated gallery.
        source: of the source model.
        target: of the target model, on the same comparisons as `live`.
        confidence: (n,) of each migrated face.
        fmr: the live false-match rate.
        tolerance: as said.
        shares: of the gallery that may enrol again, ascending.
    """
    before, after = float(source.rejected.mean()), float(live.rejected.mean())
    fresh = float(target.rejected.mean())
    allowed = max(before, fresh) + tolerance

    def verdict(answer: Answer, fnmr: float, weak: float, least: float | None) -> Verdict:
        return Verdict(answer, fmr, fnmr, after, before, fresh, weak, least)

    if after <= allowed:
        return verdict("migrate", after, 0.0, None)
    for share in shares:
        least = float(np.quantile(confidence, share))
        weak = confidence[live.gallery] < least
        left = float(np.where(weak, target.rejected, live.rejected).mean())
        if left <= allowed:
            return verdict("migrate with re-enrolment of the weak", left, share, least)
    return verdict("re-enrol", fresh, 1.0, None)


def verdict_text(verdict: Verdict) -> str:
    """The verdict in words."""
    found = (
        f"{verdict.answer}: at a false-match rate of {verdict.fmr:g}, "
        f"{100 * verdict.fnmr:.1f} % of genuine comparisons of new probes are expected to fail; "
        f"{100 * verdict.fnmr_migrated:.1f} % with everything migrated, "
        f"{100 * verdict.fnmr_source:.1f} % with the source model before, "
        f"{100 * verdict.fnmr_target:.1f} % after everybody has enrolled anew."
    )
    if verdict.confidence is not None:
        found += (
            f" {100 * verdict.weak:.0f} % of the gallery, those with a confidence below "
            f"{verdict.confidence:.3f}, should enrol again."
        )
    return found
