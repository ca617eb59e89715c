"""The decision in identification: who it is, nobody known, or one of two who are too much alike.

A probe that is compared with N templates meets N chances of a false match, so the threshold follows
from the rate at which a stranger may be taken for somebody (FPIR, false-positive identification
rate) and from N: ``FPIR = 1 - (1 - FMR) ** N``. docs/decisions/0008-identification.md tells why
thresholds are carried on beyond those that were fitted, and how far that can be trusted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

from services.gallery.values import Candidate

_STEP = 1e-9  # of decades: rates that differ by less are the same


class Identity(StrEnum):
    """The answer to "who is this?"."""

    KNOWN = "known"
    UNKNOWN = "unknown"
    AMBIGUOUS = "ambiguous"


@dataclass(frozen=True)
class FittedRate:
    """A threshold of a model's or a map's card.

    Attributes:
        fmr: false-match rate of one comparison that it was fitted for, 0 to 1.
        similarity: the threshold.
    """

    fmr: float
    similarity: float


@dataclass(frozen=True)
class IdentificationPoint:
    """Where the threshold is, and what it rests on.

    Attributes:
        threshold: least similarity of somebody who is known.
        margin: how much nearer than the second the first must be.
        fpir: the rate that was asked for.
        templates: how many templates the probe is compared with.
        fmr: of one comparison, from these two.
        fitted_fmr: the fitted rate that the threshold rests on: of those at hand the strictest
            that is not stricter than ``fmr``, or the loosest of all.
        decades: how many powers of ten ``fmr`` lies beyond the strictest fitted rate; 0 where it
            does not. The larger, the less the threshold is more than a careful guess.
    """

    threshold: float
    margin: float
    fpir: float
    templates: int
    fmr: float
    fitted_fmr: float
    decades: float

    @property
    def extrapolated(self) -> bool:
        """Whether the threshold is stricter than any that was fitted."""
        return self.decades > 0.0


@dataclass(frozen=True)
class Identification:
    """The decision for one probe.

    Attributes:
        identity: known, unknown or ambiguous.
        subject_id: who it is; None unless known.
        candidates: the nearest subjects, the one farthest above its threshold first.
        margin: how much farther the first is above its threshold than the second; None where
            there are not two.
    """

    identity: Identity
    subject_id: str | None
    candidates: tuple[Candidate, ...]
    margin: float | None


def fmr_for(fpir: float, templates: int) -> float:
    """The false-match rate of one comparison that gives an FPIR over so many.

    Args:
        fpir: 0 to 1, both excluded.
        templates: compared with, at least 0; of an empty gallery the rate is that of one.

    Raises:
        ValueError: the arguments are out of range.
    """
    if not 0.0 < fpir < 1.0 or templates < 0:
        raise ValueError("An FPIR lies between 0 and 1, and there is no negative number of them.")
    return -math.expm1(math.log1p(-fpir) / max(templates, 1))


def identification_point(
    fitted: Sequence[FittedRate], fpir: float, templates: int, margin_decades: float
) -> IdentificationPoint:
    """The threshold and margin for a gallery's size.

    Between fitted rates the threshold is interpolated over the logarithm of the rate. Beyond the
    strictest it is carried on in a straight line along the steepest of the fitted steps, which
    takes the tail of impostor similarities to be at least exponential: thinner tails only make it
    too strict. A looser rate than the loosest fitted gets the loosest fitted threshold.

    Args:
        fitted: thresholds of one card for one kind of comparison; at least two rates.
        fpir: rate at which a stranger may be taken for somebody, 0 to 1, both excluded.
        templates: that a probe is compared with.
        margin_decades: the margin is what the threshold rises over so many powers of ten of FMR.

    Raises:
        ValueError: fewer than two rates, or thresholds that do not rise as rates fall.
    """
    rates = sorted(fitted, key=lambda one: -one.fmr)
    if len(rates) < 2:
        raise ValueError("Identification needs thresholds for at least two false-match rates.")
    steps = [_slope(looser, stricter) for looser, stricter in pairwise(rates)]
    steepest = max(steps)
    fmr = fmr_for(fpir, templates)
    loosest, strictest = rates[0], rates[-1]
    beyond = math.log10(strictest.fmr / fmr)
    if beyond > _STEP:
        rest, threshold = strictest, strictest.similarity + beyond * steepest
    elif fmr >= loosest.fmr:
        rest, threshold = loosest, loosest.similarity
    else:
        place = max(index for index, one in enumerate(rates) if one.fmr >= fmr * (1 - _STEP))
        rest = rates[place]
        slope = steps[min(place, len(steps) - 1)]
        threshold = rest.similarity + max(0.0, math.log10(rest.fmr / fmr)) * slope
    return IdentificationPoint(
        threshold=threshold,
        margin=margin_decades * steepest,
        fpir=fpir,
        templates=templates,
        fmr=fmr,
        fitted_fmr=rest.fmr,
        decades=beyond if beyond > _STEP else 0.0,
    )


def identify(
    candidates: Sequence[Candidate], points: Mapping[str, IdentificationPoint]
) -> Identification:
    """Decides who a probe shows.

    Args:
        candidates: of the search; several templates of one subject count as its best.
        points: by map, "" for native templates: similarities to mapped templates have thresholds
            of their own. Candidates of a map without a point are left out, since nothing is known
            of how often they match falsely.
    """
    best: dict[str, tuple[float, Candidate]] = {}
    for one in candidates:
        point = points.get(one.map)
        if point is None:
            continue
        above = one.similarity - point.threshold
        if one.subject_id not in best or above > best[one.subject_id][0]:
            best[one.subject_id] = (above, one)
    ranked = sorted(best.values(), key=lambda pair: (-pair[0], pair[1].subject_id))
    shown = tuple(one for _, one in ranked)
    margin = ranked[0][0] - ranked[1][0] if len(ranked) > 1 else None
    if not ranked or ranked[0][0] < 0.0:
        return Identification(Identity.UNKNOWN, None, shown, margin)
    if margin is not None and margin < points[shown[0].map].margin:
        return Identification(Identity.AMBIGUOUS, None, shown, margin)
    return Identification(Identity.KNOWN, shown[0].subject_id, shown, margin)


def _slope(looser: FittedRate, stricter: FittedRate) -> float:
    """How much the threshold rises from one rate to a stricter one, for a power of ten."""
    if stricter.fmr >= looser.fmr or stricter.similarity < looser.similarity:
        raise ValueError("Thresholds must rise as false-match rates fall.")
    return (stricter.similarity - looser.similarity) / math.log10(looser.fmr / stricter.fmr)
