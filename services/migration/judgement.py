"""What a gallery's own comparisons say of a map: false matches, false non-matches, the weak.

Nobody has photographs, so nobody has vectors of the new model to compare with. What can be measured
is how templates of the gallery compare among themselves, before the map and after it. After it both
sides carry the map's error, in service only the gallery's side does, so the rates after it are
rather too high than too low.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.evaluation.rates import threshold_at_fmr
from models.r3an.verdict import Answer, Rejections, decide
from services.gallery.values import Metric, Vector

LEAST_PAIRS = 30
"""Fewer genuine comparisons do not carry a rate (the rule of 30)."""

FEW_WEAK, MANY_WEAK = 0.15, 0.3
"""Where there are no genuine comparisons, shares of weak templates decide alone. A tenth is weak by
the card's own measure; beyond `MANY_WEAK` `models.r3an.verdict` advises enrolment anew too."""

BINS = 60
_EDGES = np.linspace(-1.0, 1.0, BINS + 1)


@dataclass(frozen=True)
class Scored:
    """Templates that are compared with each other.

    Attributes:
        source: (n,d_S) as stored.
        mapped: (n,d_T) of length 1.
        confidence: (n,).
        subject: (n,) numbers of the subjects.
        metric: of the source.
    """

    source: Vector
    mapped: Vector
    confidence: NDArray[np.float32]
    subject: NDArray[np.int64]
    metric: Metric


@dataclass(frozen=True)
class Judgement:
    """What was found; rates in [0,1], None where there was nothing to measure them by.

    Attributes:
        answer: what to do with this gallery.
        basis: what the answer rests on, in words.
        genuine: comparisons within subjects.
        impostor: comparisons between subjects.
        fnmr_before: of the source's templates at the live false-match rate.
        fnmr_mapped: of the mapped ones.
        fnmr_expected: after what the answer says.
        enrol_again: share of the gallery that should.
        least_confidence: of those that need not.
        fmr_at_card: false-match rate of the mapped templates at the card's own threshold.
        histograms: shares by bins of similarity from -1 to 1: "source" and "mapped", genuine and
            impostor.
    """

    answer: Answer
    basis: str
    genuine: int
    impostor: int
    fnmr_before: float | None
    fnmr_mapped: float | None
    fnmr_expected: float | None
    enrol_again: float
    least_confidence: float | None
    fmr_at_card: float | None
    histograms: dict[str, list[float]]


def judge(scored: Scored, fmr: float, card_threshold: float | None, weak_share: float) -> Judgement:
    """Judges a map by the gallery's own comparisons.

    Args:
        scored: templates; with less than 30 genuine comparisons among them, the confidences decide.
        fmr: live false-match rate.
        card_threshold: of the card, for mapped against mapped at that rate; None without one.
        weak_share: of templates whose confidence is below the weak level.
    """
    first, second = np.triu_indices(len(scored.subject), 1)
    same = scored.subject[first] == scored.subject[second]
    before, after = _similarities(scored)
    scores = {"source": before[first, second], "mapped": after[first, second]}
    genuine, impostor = int(same.sum()), int((~same).sum())
    histograms = {
        f"{space} {kind}": _histogram(values[chosen])
        for space, values in scores.items()
        for kind, chosen in (("genuine", same), ("impostor", ~same))
    }
    at_card = None
    if card_threshold is not None and impostor:
        at_card = float((scores["mapped"][~same] >= card_threshold).mean())
    if genuine < LEAST_PAIRS or not impostor:
        answer, basis = _by_confidence(weak_share)
        share = weak_share if answer != "migrate" else 0.0
        return Judgement(
            answer, basis, genuine, impostor, None, None, None, share, None, at_card, histograms
        )
    live, source = (
        Rejections(
            values[same] < threshold_at_fmr(values[~same], fmr), second[same].astype(np.int64)
        )
        for values in (scores["mapped"], scores["source"])
    )
    # Of the new model's own comparisons nothing is known but that they should not be worse.
    found = decide(live, source, source, scored.confidence, fmr)
    return Judgement(
        found.answer,
        f"{genuine} comparisons within subjects and {impostor} between them, before and after the "
        "map; with both sides mapped, so the rate after it is rather too high",
        genuine,
        impostor,
        found.fnmr_source,
        found.fnmr_migrated,
        found.fnmr,
        found.weak,
        found.confidence,
        at_card,
        histograms,
    )


def _by_confidence(weak_share: float) -> tuple[Answer, str]:
    basis = (
        f"confidences alone: fewer than {LEAST_PAIRS} comparisons within subjects are in the sample"
    )
    if weak_share <= FEW_WEAK:
        return "migrate", basis
    if weak_share <= MANY_WEAK:
        return "migrate with re-enrolment of the weak", basis
    return "re-enrol", basis


def _similarities(scored: Scored) -> tuple[Vector, Vector]:
    """(n,n) of the source in its own metric, and (n,n) of the mapped."""
    products = scored.source @ scored.source.T
    if scored.metric == "euclidean":
        squares = np.diag(products)
        gaps = np.maximum(squares[:, None] + squares[None] - 2 * products, 0.0)
        products = -np.sqrt(gaps)
    return products, scored.mapped @ scored.mapped.T


def _histogram(values: Vector) -> list[float]:
    """Shares by bins; empty without values. Distances fall into the outermost bins."""
    if len(values) == 0:
        return []
    counts, _ = np.histogram(np.clip(values, -1.0, 1.0), _EDGES)
    return [round(float(share), 6) for share in counts / len(values)]
