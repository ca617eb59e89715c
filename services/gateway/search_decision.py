"""Who it is: candidates, thresholds for the gallery's size, and the lead that the first needs.

One search compares a probe with every template, so the rate of false matches in one comparison must
be far below the wanted rate of false identifications: FPIR = 1 - (1 - FMR)^N for N templates.
Thresholds are fitted at a few rates; between them, and beyond the strictest, they follow a line
over the logarithm of the rate, as similarities of different people nearly do. Beyond the strictest
the real curve bends down, so the line asks for too much rather than too little.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from services.errors import Errors, MienError
from services.gallery import Candidate
from services.gateway.decision import Cause
from services.rpc.mien.v1 import model_pb2
from services.settings import GallerySettings


class Fitted(NamedTuple):
    """A similarity threshold, and the false-match rate of one comparison that it was fitted for."""

    fmr: float
    similarity: float


MapThresholds = Callable[[str], Sequence[Fitted]]
"""Thresholds of the target's own probes against what a map gives, by "name@version" of the map."""


class Identity(StrEnum):
    """The answer to "who is this?"."""

    KNOWN = "known"
    UNKNOWN = "unknown"
    AMBIGUOUS = "ambiguous"
    TOO_POOR = "too_poor"


@dataclass(frozen=True)
class SearchPoint:
    """Where the thresholds of a search are.

    Attributes:
        native: threshold for native templates.
        least_margin: by which an unambiguous first must lead the second.
        fpir: that the thresholds were set for; None for a threshold of the caller's own.
        fmr: of one comparison, that this rate asks for; likewise.
        extrapolated: the threshold lies beyond those that were fitted.
        searched: templates that each probe is compared with.
        maps: thresholds of mapped templates.
    """

    native: float
    least_margin: float
    fpir: float | None
    fmr: float | None
    extrapolated: bool
    searched: int
    maps: MapThresholds = field(repr=False)

    def threshold(self, map_name: str) -> float:
        """What a template must reach: a native one, or one of the named map.

        Raises:
            MienError: no thresholds are known for the map.
        """
        if not map_name or self.fmr is None:
            return self.native
        fitted = self.maps(map_name)
        if not fitted:
            raise MienError(
                Errors.THRESHOLD_UNKNOWN,
                f"The gallery holds vectors of {map_name}, whose thresholds are not known here.",
            )
        return threshold_at(fitted, self.fmr)


@dataclass(frozen=True)
class Ranked:
    """A candidate, and what its similarity must reach."""

    candidate: Candidate
    threshold: float


@dataclass(frozen=True)
class Identification:
    """Who a face or vector is.

    Attributes:
        decision: known, unknown, ambiguous or too poor.
        faults: why it is too poor.
        candidates: best first.
        margin: by which the first leads the second; None without a second.
        least_margin: that the first needs.
    """

    decision: Identity
    faults: list[Cause]
    candidates: list[Ranked]
    margin: float | None
    least_margin: float


def search_point(
    model: model_pb2.ModelInfo,
    searched: int,
    settings: GallerySettings,
    maps: MapThresholds,
    *,
    fpir: float | None = None,
    threshold: float | None = None,
) -> SearchPoint:
    """The thresholds of a search.

    Args:
        model: that is live, with its fitted thresholds.
        searched: templates that each probe is compared with.
        settings: the usual rate, and the lead.
        maps: thresholds of mapped templates.
        fpir: wanted false-positive identification rate; None for the usual one.
        threshold: a threshold of the caller's own, in place of it.

    Raises:
        MienError: the model has fewer than two fitted thresholds.
    """
    fitted = [Fitted(one.fmr, one.similarity) for one in model.thresholds]
    if len(fitted) < 2:
        name = f"{model.identity.name}@{model.identity.version}"
        raise MienError(
            Errors.THRESHOLD_UNKNOWN, f"{name} needs two fitted thresholds for a search."
        )
    strictest = min(one.fmr for one in fitted)
    decades = 10**-settings.margin_decades
    if threshold is not None:
        lead = threshold_at(fitted, strictest * decades) - threshold_at(fitted, strictest)
        return SearchPoint(threshold, lead, None, None, False, searched, maps)
    rate = settings.fpir if fpir is None else fpir
    fmr = comparison_rate(rate, searched)
    native = threshold_at(fitted, fmr)
    lead = threshold_at(fitted, fmr * decades) - native
    return SearchPoint(native, lead, rate, fmr, fmr < strictest, searched, maps)


def comparison_rate(fpir: float, searched: int) -> float:
    """False-match rate of one comparison by which a search of so many has the rate ``fpir``."""
    return -math.expm1(math.log1p(-fpir) / max(searched, 1))


def threshold_at(fitted: Sequence[Fitted], fmr: float) -> float:
    """The threshold for a false-match rate, on the line through the nearest two fitted ones.

    A laxer rate than the laxest that was fitted gets that one's threshold.

    Args:
        fitted: at least one; with a single one, that is the threshold.
        fmr: above 0.
    """
    points = sorted(fitted, reverse=True)  # laxest first
    if fmr >= points[0].fmr or len(points) == 1:
        return points[0].similarity
    pairs = list(itertools.pairwise(points))
    lax, strict = next((pair for pair in pairs if fmr >= pair[1].fmr), pairs[-1])
    slope = (strict.similarity - lax.similarity) / math.log(strict.fmr / lax.fmr)
    return strict.similarity + slope * math.log(fmr / strict.fmr)


def ranked(candidates: Sequence[Candidate], point: SearchPoint) -> list[Ranked]:
    """Candidates with their thresholds, the farthest above its own first."""
    made = [Ranked(one, point.threshold(one.map)) for one in candidates]
    return sorted(made, key=lead, reverse=True)


def lead(one: Ranked) -> float:
    """By how much a candidate exceeds what it must reach."""
    return one.candidate.similarity - one.threshold


def identification(
    candidates: Sequence[Candidate], point: SearchPoint, faults: list[Cause], limit: int
) -> Identification:
    """Decides who it is.

    Args:
        candidates: of different subjects, two or more where there are two: the second decides
            whether the first is ambiguous.
        point: of the search.
        faults: why the face does not allow a decision; the candidates are told all the same.
        limit: most candidates that are told.

    Raises:
        MienError: the thresholds of a candidate's map are not known.
    """
    order = ranked(candidates, point)
    margin = lead(order[0]) - lead(order[1]) if len(order) > 1 else None
    if faults:
        decision = Identity.TOO_POOR
    elif not order or lead(order[0]) < 0:
        decision = Identity.UNKNOWN
    elif margin is not None and margin < point.least_margin:
        decision = Identity.AMBIGUOUS
    else:
        decision = Identity.KNOWN
    return Identification(decision, faults, order[:limit], margin, point.least_margin)
