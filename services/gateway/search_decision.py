"""Who a face is: the gallery's decision, at thresholds from the cards of the model and of its maps.

Why thresholds depend on the gallery's size, and how: `services.gallery.identify`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from services.errors import Errors, MienError
from services.gallery import Candidate
from services.gallery.identify import (
    FittedRate,
    IdentificationPoint,
    identification_point,
    identify,
)
from services.gateway.decision import Cause
from services.rpc.mien.v1 import model_pb2
from services.settings import GallerySettings

MapThresholds = Callable[[str], Sequence[FittedRate]]
"""Thresholds of the model's own probes against what a map gives, by the map's "name@version"; empty
where none are known."""


class IdentityDecision(StrEnum):
    """The answer to "who is this?"."""

    KNOWN = "known"
    UNKNOWN = "unknown"
    AMBIGUOUS = "ambiguous"
    TOO_POOR = "too_poor"


@dataclass(frozen=True)
class SearchPoint:
    """Where the thresholds of a search are.

    Attributes:
        native: of native templates.
        own: the threshold is the caller's own, for all templates: no rate is stated for it.
        decades: of the margin, see `identification_point`.
        fitted: thresholds of the model itself.
        maps: thresholds of mapped templates.
        raised: added to every threshold, for a probe that was enhanced.
    """

    native: IdentificationPoint
    own: bool
    decades: float
    fitted: tuple[FittedRate, ...]
    maps: MapThresholds = field(repr=False)
    raised: float = 0.0

    def of(self, map_name: str) -> IdentificationPoint | None:
        """The point of native templates, or of a map's; None where nothing is known of the map."""
        if self.own:
            return self.native
        found = self.native
        if map_name:
            fitted = self.maps(map_name)
            if len(fitted) < 2:
                return None
            found = identification_point(fitted, found.fpir, found.templates, self.decades)
        return replace(found, threshold=found.threshold + self.raised)

    def for_enhanced(self, thresholds: Sequence[model_pb2.Threshold]) -> SearchPoint:
        """The same for an enhanced probe: as much stricter as its enhancer asks at most.

        Args:
            thresholds: fitted for comparisons with such a face; none where the model's own hold.
        """
        asked = [
            one.similarity - own.similarity
            for one in thresholds
            for own in self.fitted
            if math.isclose(one.fmr, own.fmr, rel_tol=1e-6)
        ]
        return replace(self, raised=max([0.0, *asked]))

    def points(self, candidates: Sequence[Candidate]) -> dict[str, IdentificationPoint]:
        """The points of all kinds of template that occur."""
        found = {name: self.of(name) for name in {one.map for one in candidates}}
        return {name: point for name, point in found.items() if point is not None}


@dataclass(frozen=True)
class Ranked:
    """A candidate, and what its similarity must reach."""

    candidate: Candidate
    threshold: float


@dataclass(frozen=True)
class FaceIdentity:
    """Who a face or vector is.

    Attributes:
        decision: known, unknown, ambiguous or too poor.
        faults: why it is too poor.
        candidates: the one farthest above its threshold first.
        margin: by which the first leads the second so; None without a second.
        least_margin: that the first needs.
    """

    decision: IdentityDecision
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
        settings: the usual rate, and the margin.
        maps: thresholds of mapped templates.
        fpir: wanted false-positive identification rate; None for the usual one.
        threshold: a threshold of the caller's own, in place of it.

    Raises:
        MienError: the model's thresholds do not allow a search.
    """
    fitted = [FittedRate(one.fmr, one.similarity) for one in model.thresholds]
    rate = settings.fpir if fpir is None else fpir
    try:
        native = identification_point(fitted, rate, searched, settings.margin_decades)
    except ValueError as error:
        name = f"{model.identity.name}@{model.identity.version}"
        raise MienError(
            Errors.THRESHOLD_UNKNOWN,
            f"A search needs thresholds of {name} for two false-match rates or more.",
        ) from error
    if threshold is not None:
        native = replace(native, threshold=threshold)
    return SearchPoint(native, threshold is not None, settings.margin_decades, tuple(fitted), maps)


def face_identity(
    candidates: Sequence[Candidate], point: SearchPoint, faults: list[Cause], limit: int
) -> FaceIdentity:
    """Decides who it is.

    Args:
        candidates: of different subjects, two or more where there are two: the second decides
            whether the first is ambiguous.
        point: of the search.
        faults: why the face does not allow a decision; the candidates are told all the same.
        limit: most candidates that are told.
    """
    points = point.points(candidates)
    found = identify(candidates, points)
    told = [Ranked(one, points[one.map].threshold) for one in found.candidates[:limit]]
    decision = IdentityDecision.TOO_POOR if faults else IdentityDecision(found.identity.value)
    needed = points[told[0].candidate.map].margin if told else point.native.margin
    return FaceIdentity(decision, faults, told, found.margin, needed)
