"""A fit in words: README.md with the table of all candidates, and the card's draft."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from models.evaluation.bootstrap import Interval
from models.evaluation.thresholds import FittedThreshold
from models.r3an.candidates import BOTH, CENTRED, WEIGHED
from models.r3an.fit import MAP_FILE, Entry, Fit, shown_conditions
from models.r3an.mappers import mapped
from models.r3an.measure import STRICT_FMR, subjects_of
from models.r3an.protocol import HEADLINE, LIVE, Figures
from models.r3an.vectors import Pairs
from models.r3an.verdict import verdict_text
from models.zoo import EmbedderCard, MapCard
from models.zoo.card_base import Metric, Weights
from models.zoo.map_card import (
    Comparison,
    ConfidenceBin,
    MapConfidence,
    MapEnd,
    MapThreshold,
)

LINEAR = ("procrustes", "ridge", "low-rank", "fc")
FORMED = {WEIGHED: "weighed", CENTRED: "centred", BOTH: "weighed and centred"}
FMR = 1e-3


@dataclass(frozen=True)
class Origin:
    """Where a fit came from, for its card and report.

    Attributes:
        source: card of the model whose vectors are mapped.
        target: card of the model whose space they are mapped to.
        data: the faces, in words.
        command: what repeats the fit.
        hardware: that it ran on.
    """

    source: EmbedderCard
    target: EmbedderCard
    data: str
    command: str
    hardware: str

    @property
    def arrow(self) -> str:
        """The two models."""
        return f"{self.source.reference} -> {self.target.reference}"


def percent(span: Interval) -> str:
    """A share with its interval."""
    return f"{100 * span.estimate:.1f} ({100 * span.low:.1f} to {100 * span.high:.1f})"


def readme(fit: Fit, pairs: Pairs, origin: Origin, left: str = "") -> str:
    """The report of a fit as Markdown.

    Args:
        fit: what was found.
        pairs: the faces.
        origin: of the fit.
        left: what it had not come to, in words.
    """
    best = fit.best.candidate
    facts = pairs.facts()
    note = "It has the highest rank-1 of all candidates on the calibration people"
    if best.of is not None:
        note += (
            f" before it is {FORMED[best.kind]}; so, rank-1 and the TAR of native probes against "
            f"mapped templates at FMR {STRICT_FMR:g} are together higher there"
        )
    note += ": a linear map is enough here." if (best.of or best.kind) in LINEAR else "."
    if left:
        note += f" Not tried when this was written: {left}. The fit goes on with its command."
    lines = [
        f"# Map {origin.arrow}",
        "",
        f"Released: **{best.title}** (`{best.kind}`), {best.parameters:,} parameters. {note}",
        "",
        (
            f"Fitted on {facts['training_faces']:,} faces in {facts['views']} views and "
            f"{facts['blends']} blends of two people each: "
            f"{origin.data}. Two groups of people were held out of that: "
            f"{facts['calibration_people']} calibration people ({facts['calibration_faces']:,} "
            f"faces), who decide on choice and thresholds, and {facts['test_people']} test people "
            f"({facts['test_faces']:,} faces), whose figures are shown. Intervals are 95 %, by "
            "person. Distractors are held-out faces without a person, and the calibration people; "
            "faces without a person that look like somebody held out were left out of everything."
        ),
        "",
        "## All candidates",
        "",
        *_table(fit),
        "",
        (
            "Probe before the bar, gallery behind it. TAR at thresholds fitted on the calibration "
            "people."
        ),
        "",
        "## By yaw",
        "",
        *_yaw_table(fit),
        "",
        "## Verdict for a gallery",
        "",
        verdict_text(fit.verdict),
        "",
        "## Confidence",
        "",
        (
            f"The second output predicts the cosine to the target's own vector. On the test people "
            f"predicted and measured cosine differ by {fit.calibration.gap:.3f} in the mean over "
            f"{len(fit.calibration.bins)} bins; the rank correlation over single faces is "
            f"{fit.calibration.rank_correlation:.2f}."
        ),
        "",
        "## Figures",
        "",
        *(f"![{name}]({name}.png)\n" for name in ("ranks", "vectors", "scores", "confidence")),
        "## Again",
        "",
        "```",
        origin.command,
        "```",
        "",
        (
            "Always map from the vector that was stored first: a map of a mapped vector adds the "
            "errors of both. Vectors of another identity than the card's source must be refused."
        ),
        "",
    ]
    return "\n".join(lines)


def _table(fit: Fit) -> list[str]:
    most = max(point.distractors for point in fit.native["T|T"].rank)
    rows = [
        f"| what | rank-1 {HEADLINE}, {most:,} distractors | rank-1 {LIVE} | rank-1 map\\|map "
        f"| TAR {HEADLINE} at FMR {FMR:g} | TAR {LIVE} at FMR {STRICT_FMR:g} | mean cosine "
        "| parameters | ms a step |".replace(HEADLINE, "map\\|T").replace(LIVE, "T\\|map"),
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, found in fit.native.items():
        shown = name.replace("|", "\\|")
        rows.append(
            f"| {shown} | {percent(found.rank1.rank1)} | | | {percent(found.tar_at(FMR).tar)} "
            f"| {percent(found.tar_at(STRICT_FMR).tar)} | | | |"
        )
    rows += [_row(entry, released=entry is fit.best) for entry in fit.entries]
    return rows


def _row(entry: Entry, *, released: bool) -> str:
    made = entry.candidate
    title = f"**{made.title}** (released)" if released else made.title
    if entry.judged is None:
        return f"| {title} | NAN | NAN | NAN | NAN | NAN | NAN | {made.parameters:,} | |"
    by = entry.judged.conditions
    cosine = entry.judged.cosine
    time = f"{1000 * made.seconds_per_step:.0f}" if made.seconds_per_step else "closed form"
    if made.of is not None:
        time = ""
    return (
        f"| {title} | {percent(by[HEADLINE].rank1.rank1)} | {percent(by[LIVE].rank1.rank1)} "
        f"| {percent(by['map|map'].rank1.rank1)} | {percent(by[HEADLINE].tar_at(FMR).tar)} "
        f"| {percent(by[LIVE].tar_at(STRICT_FMR).tar)} "
        f"| {cosine.estimate:.3f} ({cosine.low:.3f} to {cosine.high:.3f}) "
        f"| {made.parameters:,} | {time} |"
    )


def _yaw_table(fit: Fit) -> list[str]:
    judged = fit.best.judged
    if judged is None:
        return []
    ways: dict[str, Figures] = {
        "S|S": fit.native["S|S"], "T|T": fit.native["T|T"], **judged.conditions,
    }  # fmt: skip
    rows = [
        "| pair's larger yaw | pairs | " + " | ".join(name.replace("|", "\\|") for name in ways)
        + " |",
        "| --- | --- |" + " --- |" * len(ways),
    ]  # fmt: skip
    most = {name: found.rank1.distractors for name, found in ways.items()}
    for first in ways["T|T"].rank:
        if first.distractors != most["T|T"]:
            continue
        cells = [
            percent(point.rank1)
            for name, found in ways.items()
            for point in found.rank
            if point.where == first.where and point.distractors == most[name]
        ]
        rows.append(f"| {first.where} | {first.pairs:,} | " + " | ".join(cells) + " |")
    return rows


def write_figures(out: Path, fit: Fit, pairs: Pairs) -> None:
    """ranks.png, vectors.png, scores.png and confidence.png."""
    # A command that draws nothing does without matplotlib.
    from models.r3an import figures  # noqa: PLC0415

    judged = fit.best.judged
    ranked = {"S|S": fit.native["S|S"], "T|T": fit.native["T|T"]}
    if judged is not None:
        ranked |= judged.conditions
    figures.draw_ranks(out / "ranks.png", ranked)
    source, target = pairs.source[pairs.test, 0], pairs.target[pairs.test, 0]
    made = mapped(fit.served.network, source)
    figures.draw_vectors(out / "vectors.png", source, made, target)
    subjects = subjects_of(pairs, pairs.test)
    figures.draw_scores(out / "scores.png", shown_conditions(pairs, fit.served), subjects)
    figures.draw_confidence(out / "confidence.png", fit.calibration.bins)


def end_of(card: EmbedderCard) -> MapEnd:
    """A model as a map's card names it."""
    return MapEnd(
        name=card.name,
        version=card.version,
        weights_sha256=card.weights.sha256,
        preprocessing_sha256=card.preprocessing_sha256,
        dimension=card.output.dimension,
        unit_length=card.output.normalise,
    )


def card_of(fit: Fit, origin: Origin) -> MapCard:
    """The draft of the map's card; name and licence are the owner's to settle."""
    best = fit.best.candidate
    found = fit.calibration
    correlation = found.rank_correlation
    return MapCard(
        name=f"{origin.source.name}-to-{origin.target.name}"[:64],
        version="1",
        title=f"Map {origin.arrow}",
        description=f"{best.title}; unit vectors of {origin.source.reference} to those that "
        f"{origin.target.reference} would give, and a predicted cosine to them.",
        licence=origin.target.licence,
        training_data=origin.data,
        weights=Weights(file=MAP_FILE, sha256=fit.exported.sha256, size_bytes=fit.exported.size),
        source=end_of(origin.source),
        target=end_of(origin.target),
        method=best.title,
        thresholds=tuple(
            _threshold(comparison, threshold, origin)
            for comparison, fitted in fit.thresholds.items()
            for threshold in fitted
        ),
        confidence=MapConfidence(
            bins=tuple(
                ConfidenceBin(predicted=round(a, 4), measured=round(b, 4), faces=count)
                for a, b, count in found.bins
            ),
            gap=round(found.gap, 4),
            rank_correlation=round(correlation, 4) if np.isfinite(correlation) else None,
            data=f"test people held out of: {origin.data}",
        ),
        metrics=_metrics(fit, origin),
    )


def _threshold(comparison: Comparison, threshold: FittedThreshold, origin: Origin) -> MapThreshold:
    return MapThreshold(
        comparison=comparison,
        fmr=threshold.fmr,
        similarity=round(threshold.similarity, 6),
        interval=(round(threshold.low, 6), round(threshold.high, 6)),
        impostor_comparisons=threshold.impostor_comparisons,
        people=threshold.people,
        images=threshold.images,
        data=f"people held out of: {origin.data}",
        command=origin.command,
    )


def _metrics(fit: Fit, origin: Origin) -> tuple[Metric, ...]:
    judged = fit.best.judged
    if judged is None:
        return ()
    spans: Mapping[str, Interval] = {
        f"rank1 {name}, {found.rank1.distractors} distractors": found.rank1.rank1
        for name, found in {**fit.native, **judged.conditions}.items()
    }
    shared = {
        "data": f"test people held out of: {origin.data}",
        "command": origin.command,
        "hardware": origin.hardware,
        "date": datetime.now(UTC).date().isoformat(),
    }

    def metric(name: str, span: Interval, unit: str, scale: float) -> Metric:
        interval = (round(scale * span.low, 4), round(scale * span.high, 4))
        value = round(scale * span.estimate, 4)
        return Metric(name=name, value=value, interval=interval, unit=unit, **shared)

    return (
        *(metric(name, span, "percent", 100.0) for name, span in spans.items()),
        metric("cosine to the target's own", judged.cosine, "cosine", 1.0),
    )
