"""A plan: what a migration would do to this gallery, without doing it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from models.zoo import MapCard
from services.gallery import Gallery, Space, Template
from services.gateway.mapping_client import MappingClient, reference
from services.migration.judgement import Judgement, Scored, judge
from services.migration.lease import now
from services.migration.record import migration_id
from services.migration.steps import Steps, collection
from services.rpc.mien.v1 import mapping_pb2

_PARTS = 16
"""Places of the gallery that the sample is taken from: old templates may be worse than new ones."""

_SCORED = 2000
"""Most templates that are compared with each other, two million comparisons."""

_LISTED = 1000
"""Most weak templates that a plan names."""

_ROW_BYTES = 400
"""Of a stored template beside its vector: ids, indexes, encryption."""

_STORING = 4.0
"""Storing a template takes so many times as long as reading it (`mien bench migrate`)."""

_PATIENCE = 30.0
_NOTABLE = 3.0
"""The card's threshold is doubted where it lets so many times more false matches pass."""


@dataclass(frozen=True)
class WeakTemplate:
    """A template that the map does not trust: the subject should enrol again."""

    tenant: str
    subject_id: str
    template_id: str
    confidence: float


@dataclass(frozen=True)
class Plan:
    """What to expect of a migration.

    Attributes:
        id: of the migration.
        source: live space.
        target: space that would be filled.
        map: "name@version".
        templates: of the live space.
        second_hand: of those, mapped already; they are not mapped on.
        looked_at: templates in the sample.
        fmr: live false-match rate.
        judgement: of the map by this gallery.
        weak_below: confidence below which a template is weak.
        weak_share: of the sample.
        weak: of the sample, at most a thousand, least trusted first.
        mean_confidence: of the sample.
        confidences: shares of the sample by 40 bins from -1 to 1.
        threshold: for new probes against mapped templates at that rate; None if the card has none.
        card_rank1: what the map's card measured against native enrolment, by name, in percent.
        seconds: that a run will probably take.
        bytes: of disk and, for the vectors, of memory that the new templates will probably take.
        warnings: what an operator should know before.
    """

    id: str
    source: Space
    target: Space
    map: str
    templates: int
    second_hand: int
    looked_at: int
    fmr: float
    judgement: Judgement
    weak_below: float
    weak_share: float
    weak: tuple[WeakTemplate, ...]
    mean_confidence: float
    confidences: tuple[float, ...]
    threshold: float | None
    card_rank1: dict[str, float]
    seconds: float
    bytes: int
    warnings: tuple[str, ...]

    def shown(self) -> dict[str, Any]:
        """As programs are shown it."""
        return {
            **asdict(self),
            "source": self.source.reference,
            "target": self.target.reference,
        }


async def make_plan(
    gallery: Gallery,
    mapping: MappingClient,
    ends: tuple[Space, Space],
    info: mapping_pb2.MapInfo,
    card: MapCard | None,
    *,
    fmr: float,
    sample: int,
    weak_below: float | None,
) -> Plan:
    """Maps a sample of the gallery and says what it shows. Nothing is stored.

    Args:
        gallery: to be migrated.
        mapping: the way to the map.
        ends: live space and target.
        info: the map.
        card: its card, if it is known here.
        fmr: live false-match rate.
        sample: most templates that are looked at.
        weak_below: confidence below which a template is weak; None for the card's own level.

    Raises:
        MienError: gallery or map are away.
    """
    whole = await collection(gallery, ends[0])
    steps = Steps(gallery, mapping, ends, reference(info), info.weights_sha256, _PATIENCE, _go_on)
    start = now()
    parts = [await _part(steps, whole.last, k, sample) for k in range(_PARTS)]
    read = now() - start
    native = [[one for one in part if not one.map] for part in parts]
    start = now()
    made = [await steps.mapped(part) for part in native]
    mapped_in = now() - start
    mapped = list(itertools.chain.from_iterable(made))
    level = _weak_level(card) if weak_below is None else weak_below
    trust = np.array([one.confidence for one in mapped], np.float32)
    weak_share = float((trust < level).mean()) if len(trust) else 0.0
    scored = _scored(native, made, ends[0])
    among = _threshold(info, mapping_pb2.COMPARISON_MAPPED_TO_MAPPED, fmr)
    judgement = await asyncio.to_thread(judge, scored, fmr, among, weak_share)
    seen = max(1, sum(map(len, parts)))
    each = read / seen * (1 + _STORING) + mapped_in / max(1, len(mapped))
    threshold = _threshold(info, mapping_pb2.COMPARISON_NATIVE_TO_MAPPED, fmr)
    return Plan(
        id=migration_id(*ends, reference(info)),
        source=ends[0],
        target=ends[1],
        map=reference(info),
        templates=whole.templates,
        second_hand=whole.mapped,
        looked_at=len(mapped),
        fmr=fmr,
        judgement=judgement,
        weak_below=level,
        weak_share=weak_share,
        weak=_weak(mapped, level),
        mean_confidence=float(trust.mean()) if len(trust) else 0.0,
        confidences=_shares(trust),
        threshold=threshold,
        card_rank1=_card_rank1(card),
        seconds=each * whole.templates,
        bytes=whole.templates * (ends[1].dimension * 4 + _ROW_BYTES),
        warnings=tuple(_warnings(whole.mapped, threshold, judgement, card, fmr)),
    )


async def _part(steps: Steps, last: int, number: int, sample: int) -> list[Template]:
    """A stretch of the gallery; templates of one subject were enrolled side by side."""
    start, end = (last * place // _PARTS for place in (number, number + 1))
    found = await steps.read(start, max(1, sample // _PARTS))
    return [one for one in found if one.sequence <= end]


async def _go_on() -> None:
    """Nothing stops a plan."""


def _scored(
    native: Sequence[Sequence[Template]], made: Sequence[Sequence[Template]], source: Space
) -> Scored:
    """The first of each part, as many as are compared."""
    most = _SCORED // _PARTS
    pairs = [
        pair
        for old, new in zip(native, made, strict=True)
        for pair in zip(old[:most], new[:most], strict=True)
    ]
    numbers: dict[tuple[str, str], int] = {}
    subject = [numbers.setdefault((old.tenant, old.subject_id), len(numbers)) for old, _ in pairs]
    return Scored(
        np.array([old.vector for old, _ in pairs], np.float32).reshape(len(pairs), -1),
        np.array([new.vector for _, new in pairs], np.float32).reshape(len(pairs), -1),
        np.array([new.confidence for _, new in pairs], np.float32),
        np.array(subject, np.int64),
        source.metric,
    )


def _weak_level(card: MapCard | None) -> float:
    """Below it lies a tenth of the faces that the card was measured with; -1 without such bins."""
    if card is None or card.confidence is None or len(card.confidence.bins) < 2:
        return -1.0
    bins = sorted(card.confidence.bins, key=lambda one: one.predicted)
    wanted, below = sum(one.faces for one in bins) / 10, 0
    for lower, upper in itertools.pairwise(bins):
        below += lower.faces
        if below >= wanted:
            return (lower.predicted + upper.predicted) / 2
    return bins[-1].predicted


def _weak(mapped: Sequence[Template], level: float) -> tuple[WeakTemplate, ...]:
    found = sorted((one for one in mapped if one.confidence < level), key=lambda o: o.confidence)
    return tuple(
        WeakTemplate(one.tenant, one.subject_id, one.id, round(one.confidence, 4))
        for one in found[:_LISTED]
    )


def _shares(trust: np.ndarray[Any, np.dtype[np.float32]]) -> tuple[float, ...]:
    counts, _ = np.histogram(trust, np.linspace(-1.0, 1.0, 41))
    return tuple(round(float(share), 6) for share in counts / max(1, len(trust)))


def _threshold(
    info: mapping_pb2.MapInfo, comparison: mapping_pb2.Comparison.ValueType, fmr: float
) -> float | None:
    """The map's threshold for one kind of comparison, or None."""
    for one in info.thresholds:
        if one.comparison == comparison and np.isclose(one.threshold.fmr, fmr, rtol=1e-6):
            return one.threshold.similarity
    return None


def _card_rank1(card: MapCard | None) -> dict[str, float]:
    if card is None:
        return {}
    return {one.name: one.value for one in card.metrics if one.name.startswith("rank1 ")}


def _warnings(
    mapped: int,
    threshold: float | None,
    judgement: Judgement,
    card: MapCard | None,
    fmr: float,
) -> list[str]:
    found = []
    if mapped:
        found.append(
            f"{mapped} templates are mapped already and are not mapped on: subjects with no other "
            "template must enrol again, or the switch leaves them behind."
        )
    if threshold is None:
        found.append(
            f"The map has no threshold for new probes against mapped templates at a false-match "
            f"rate of {fmr:g}: identification cannot decide by it after the switch."
        )
    if judgement.fmr_at_card is not None and judgement.fmr_at_card > _NOTABLE * fmr:
        found.append(
            f"At the map's own threshold {judgement.fmr_at_card:.2g} of this gallery's false "
            f"comparisons match, not {fmr:g}: fit the map to people like these."
        )
    if card is None:
        found.append("The map's card is not known here: no level of weakness, no measured rank-1.")
    return found
