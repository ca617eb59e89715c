"""Fitting a map: all candidates on the same faces, the best one written, with card and report.

The candidate with the most hits at rank-1 on the calibration people is released, weighed or centred
where that makes it better for them; the test people see it once, in the report. A linear map that
wins is what ships.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from models.evaluation.thresholds import FittedThreshold, fit_thresholds
from models.r3an import protocol
from models.r3an.arrays import Floats
from models.r3an.candidates import BOTH, CENTRED, WEIGHED, Candidate, count
from models.r3an.centring import SHARES, CentredMap, learn_crowd
from models.r3an.confidence import Calibration, ServedMap, calibration_of, learn_head
from models.r3an.mappers import mapped
from models.r3an.measure import (
    Choice,
    Judged,
    choice_figures,
    distractors_of,
    judge_map,
    judge_native,
    subjects_of,
)
from models.r3an.protocol import HEADLINE, LIVE, Figures
from models.r3an.vectors import Pairs
from models.r3an.verdict import Verdict, decide, rejections
from models.r3an.weighing import WeighedMap, learn_weights
from models.training.onnx_export import Exported, write_onnx
from models.zoo.map_card import Comparison

MAP_FILE = "map.onnx"
CANDIDATES = "candidates"
TARGETS = (1e-2, 1e-3, 1e-4)
SAMPLES = 4
COMPARISONS: tuple[Comparison, ...] = ("map|T", "T|map", "map|map")


@dataclass(frozen=True)
class Entry:
    """One candidate in the report.

    Attributes:
        candidate: the map.
        choice: figures on the calibration people; None where training diverged.
        judged: figures on the test people; None where training diverged.
    """

    candidate: Candidate
    choice: Choice | None
    judged: Judged | None


@dataclass(frozen=True)
class Fit:
    """What a fit found.

    Attributes:
        entries: all candidates.
        native: S|S, T|T and raw.
        best: name of the released candidate.
        served: it, with its confidence head.
        calibration: of the confidence, on the test people.
        thresholds: for each kind of comparison.
        verdict: for a gallery that is migrated with it.
        exported: its file.
    """

    entries: list[Entry]
    native: dict[str, Figures]
    best: Entry
    served: ServedMap
    calibration: Calibration
    thresholds: dict[Comparison, list[FittedThreshold]]
    verdict: Verdict
    exported: Exported


def enter(pairs: Pairs, candidate: Candidate, resamples: int = protocol.RESAMPLES) -> Entry:
    """Measures a candidate."""
    network = candidate.network
    if network is None:
        return Entry(candidate, None, None)

    def apply(vectors: Floats) -> Floats:
        return mapped(network, vectors)

    return Entry(candidate, choice_figures(pairs, apply), judge_map(pairs, apply, resamples))


def best_of(entries: Sequence[Entry]) -> Entry:
    """The entry with the highest rank-1 on the calibration people; of equals the smaller map.

    The form of it that is worth most takes its place where that is worth more.

    Raises:
        ValueError: every training diverged.
    """
    whole = [(entry, entry.choice) for entry in entries if entry.choice is not None]
    plain = [(entry, choice) for entry, choice in whole if entry.candidate.of is None]
    if not plain:
        raise ValueError("no candidate has finite numbers")
    best, choice = max(plain, key=lambda pair: (pair[1].rank1, -pair[0].candidate.parameters))
    own = [pair for pair in whole if pair[0].candidate.of == best.candidate.kind]
    return max([(best, choice), *own], key=lambda pair: pair[1].worth)[0]


def forms(pairs: Pairs, best: Candidate, seed: int = 1) -> list[Candidate]:
    """What else is made of the best map: weighed, centred, and both.

    Args:
        pairs: the faces.
        best: the map.
        seed: of the training of what centres it.

    Returns:
        Those that there are enough training faces for.
    """
    weighed = weigh(pairs, best)
    made = (weighed, centre(pairs, best, seed), weighed and centre(pairs, weighed, seed))
    return [one for one in made if one is not None]


def weigh(pairs: Pairs, best: Candidate) -> Candidate | None:
    """A map, weighed; None where too few training people have two faces."""
    network = best.network
    weights = None if network is None else learn_weights(network, pairs)
    if network is None or weights is None:
        return None
    made = WeighedMap(network, weights).eval()
    return Candidate(WEIGHED, made, 0.0, best.parameters + weights.size, best.kind)


def centre(pairs: Pairs, best: Candidate, seed: int = 1) -> Candidate | None:
    """A map, centred by the share that is worth most to the calibration people.

    Args:
        pairs: the faces.
        best: the map, or its weighed form.
        seed: of the training of what centres it.

    Returns:
        None where there are too few training faces.
    """
    network = best.network
    crowd = None if network is None else learn_crowd(network, pairs, seed)
    if network is None or crowd is None:
        return None

    def worth(made: nn.Module) -> float:
        return choice_figures(pairs, lambda vectors: mapped(made, vectors)).worth

    made = max((CentredMap(network, crowd, share) for share in SHARES), key=worth)
    parameters = best.parameters + count(crowd)
    kind = BOTH if best.kind == WEIGHED else CENTRED
    return Candidate(kind, made.eval(), 0.0, parameters, best.of or best.kind)


def finish(
    pairs: Pairs, entries: list[Entry], out: Path, fmr: float, resamples: int = protocol.RESAMPLES
) -> Fit:
    """Finishes the best candidate: confidence, thresholds, verdict and files.

    Every candidate is written as `candidates/NAME.onnx`, the released one among them.

    Args:
        pairs: the faces.
        entries: all candidates, measured.
        out: folder.
        fmr: live false-match rate of the verdict.
        resamples: of the intervals.
    """
    best = best_of(entries)
    source, target, _ = pairs.learned()
    held_source, held_target = (
        side[pairs.calibration].reshape(-1, side.shape[2]) for side in (pairs.source, pairs.target)
    )
    exported = None
    released = None
    for entry in entries:
        network = entry.candidate.network
        if network is None:
            continue
        served = ServedMap(network, pairs.dimensions)
        if entry is best:
            learn_head(served, source, target, held_source, held_target)
        samples = {"vector": torch.from_numpy(source[:SAMPLES].copy())}
        path = out / CANDIDATES / f"{entry.candidate.kind}.onnx"
        written = write_onnx(served, path, samples, ["mapped", "confidence"])
        if entry is best:
            exported, released = written, served
    if released is None or exported is None:
        raise ValueError("no candidate has finite numbers")
    test = pairs.test
    return Fit(
        entries,
        judge_native(pairs, resamples),
        best,
        released,
        calibration_of(released, pairs.source[test, 0], pairs.target[test, 0]),
        fitted_thresholds(pairs, released),
        verdict_of(pairs, released, fmr),
        exported,
    )


def fitted_thresholds(
    pairs: Pairs, served: ServedMap, targets: Sequence[float] = TARGETS
) -> dict[Comparison, list[FittedThreshold]]:
    """Thresholds on all held-out people, for each kind of comparison."""
    rows = np.concatenate([pairs.calibration, pairs.test])
    made, own = mapped(served.network, pairs.source[rows, 0]), pairs.target[rows, 0]
    people = [str(person) for person in pairs.person[rows]]
    sides = {"map|T": (made, own), "T|map": (own, made), "map|map": (made, made)}
    found: dict[Comparison, list[FittedThreshold]] = {}
    for comparison in COMPARISONS:
        probe, gallery = sides[comparison]

        def score(
            first: np.ndarray, second: np.ndarray, a: Floats = probe, b: Floats = gallery
        ) -> np.ndarray:
            # Each two faces are compared once, the earlier one as probe.
            return np.asarray(a[first].astype(np.float64) @ b[second].T)

        found[comparison] = fit_thresholds(score, people, targets, resamples=200)
    return found


def verdict_of(pairs: Pairs, served: ServedMap, fmr: float) -> Verdict:
    """The verdict on the test people, thresholds from the calibration people."""

    def conditions(rows: np.ndarray) -> dict[str, protocol.Condition]:
        source, target = pairs.source[rows, 0], pairs.target[rows, 0]
        made = mapped(served.network, source)
        none = target[:0]
        return {
            LIVE: protocol.Condition(target, made, none),
            "S|S": protocol.Condition(source, source, source[:0]),
            "T|T": protocol.Condition(target, target, none),
        }

    fitted, judged = conditions(pairs.calibration), conditions(pairs.test)
    sides = subjects_of(pairs, pairs.calibration), subjects_of(pairs, pairs.test)
    failed = {
        name: rejections((fitted[name], sides[0]), (judged[name], sides[1]), fmr) for name in judged
    }
    with torch.no_grad():
        confidence = served(torch.from_numpy(pairs.source[pairs.test, 0]))[1][:, 0].numpy()
    return decide(failed[LIVE], failed["S|S"], failed["T|T"], confidence, fmr)


def facts_of(fit: Fit, about: Mapping[str, Any]) -> dict[str, Any]:
    """`fit.json`: everything that the report says, as numbers."""

    def points(figures: Mapping[str, Figures]) -> dict[str, Any]:
        return {name: asdict(found) for name, found in figures.items()}

    return {
        **about,
        "released": fit.best.candidate.kind,
        "verdict": asdict(fit.verdict),
        "confidence": asdict(fit.calibration),
        "native": points(fit.native),
        "maps": [
            {
                "name": entry.candidate.kind,
                "title": entry.candidate.title,
                "released": entry is fit.best,
                "parameters": entry.candidate.parameters,
                "seconds_per_step": entry.candidate.seconds_per_step,
                "calibration": None if entry.choice is None else asdict(entry.choice),
                "conditions": None if entry.judged is None else points(entry.judged.conditions),
                "cosine": None if entry.judged is None else asdict(entry.judged.cosine),
            }
            for entry in fit.entries
        ],
    }


def write_facts(path: Path, facts: Mapping[str, Any]) -> None:
    """As indented JSON."""
    path.write_text(json.dumps(facts, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def shown_conditions(pairs: Pairs, served: ServedMap) -> dict[str, protocol.Condition]:
    """The conditions of the released map on the test people, for figures."""
    rows, others = pairs.test, distractors_of(pairs, "test")
    made = mapped(served.network, pairs.source[rows, 0])
    far = mapped(served.network, pairs.source[others, 0])
    target = (pairs.target[rows, 0], pairs.target[others, 0])
    found = protocol.conditions(target, (made, far))
    return {
        "T|T": protocol.Condition(target[0], *target),
        HEADLINE: found[HEADLINE],
        LIVE: found[LIVE],
        "map|map": found["map|map"],
    }
