"""The cross-model protocol on pictures: both models, every map of a fit, and a verdict."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.r3an import protocol
from models.r3an.arrays import Bools, Floats, draw, unit
from models.r3an.protocol import HEADLINE, LIVE, Condition, Figures, Subjects
from models.r3an.verdict import Verdict, decide, rejections
from models.zoo import MapCard
from services.evaluation.pairs import PairsError
from services.runtime import EngineOptions, load_engine

FMR = 1e-3
_BATCH = 1024


@dataclass(frozen=True)
class Labelled:
    """Pictures of known people.

    Attributes:
        paths: relative to their folder.
        people: who each shows.
        yaw: degrees, where the index says; NaN elsewhere.
    """

    paths: list[str]
    people: list[str]
    yaw: list[float]


@dataclass(frozen=True)
class Seen:
    """Unit vectors of both models for the same pictures.

    Attributes:
        source: (n,d_S).
        target: (n,d_T).
    """

    source: Floats
    target: Floats


@dataclass(frozen=True)
class MapAnswer:
    """What a map makes of source vectors: unit vectors, and how far each can be trusted."""

    mapped: Floats
    confidence: Floats


@dataclass(frozen=True)
class Subject:
    """What is judged: people split into two halves, and distractors.

    Attributes:
        subjects: of all pictures of people.
        faces: their vectors.
        distractors: vectors of nobody among them.
        first: (n,) the people that thresholds are fitted on; the others judge.
    """

    subjects: Subjects
    faces: Seen
    distractors: Seen
    first: Bools


def read_index(file: Path) -> Labelled:
    """Reads a TSV file with the columns ``path`` and ``person``, and ``yaw`` if it is known.

    Raises:
        PairsError: it cannot be read, lacks a column, or shows fewer than four people.
    """
    try:
        with file.open(newline="", encoding="utf-8-sig") as lines:
            rows = list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
    except (OSError, UnicodeDecodeError) as error:
        raise PairsError(f"{file} cannot be read.") from error
    if not rows or not {"path", "person"} <= set(rows[0]):
        raise PairsError(f"{file}: the header must name path and person, split by tabs.")
    rows = [row for row in rows if row["path"] and row["person"]]
    people = [row["person"] for row in rows]
    if len(set(people)) < 4:
        raise PairsError(f"{file} shows fewer than four people: too few to judge on.")
    try:
        yaw = [float(row.get("yaw") or "nan") for row in rows]
    except ValueError as error:
        raise PairsError(f"{file}: yaw must be in degrees.") from error
    return Labelled([row["path"] for row in rows], people, yaw)


def subject_of(labelled: Labelled, faces: Seen, distractors: Seen, usable: Bools) -> Subject:
    """Numbers the people and splits them, by their names alone.

    Args:
        labelled: all pictures.
        faces: vectors of the usable ones.
        distractors: vectors of nobody among them.
        usable: (n,) False where a picture gave no vector.

    Raises:
        PairsError: in one half nobody has two usable pictures, or there are no distractors.
    """
    people = np.array(labelled.people)[usable]
    names, person = np.unique(people, return_inverse=True)
    order = np.argsort([draw(str(name), "half") for name in names])
    half = np.zeros(len(names), dtype=np.bool_)
    half[order[: len(names) // 2]] = True
    first = half[person]
    yaw = np.array(labelled.yaw, dtype=np.float32)[usable]
    for part in (first, ~first):
        if np.bincount(person[part]).max(initial=0) < 2 or len(np.unique(person[part])) < 2:
            raise PairsError("Too few people have two usable pictures.")
    if not len(distractors.source):
        raise PairsError("No distractor shows a face that can be used.")
    return Subject(Subjects(person.astype(np.int64), yaw), faces, distractors, first)


def apply_map(path: Path, card: MapCard, vectors: Floats) -> MapAnswer:
    """Runs a map's file.

    Args:
        path: ONNX.
        card: names its tensors.
        vectors: (n,d_S) unit vectors.

    Raises:
        EngineError: no engine can run it.
    """
    engine = load_engine(path, "auto", EngineOptions())
    names = card.tensors
    mapped, trust = [], []
    try:
        for start in range(0, len(vectors), _BATCH):
            made = engine.infer(
                {names.vector: np.ascontiguousarray(vectors[start : start + _BATCH])}
            )
            mapped.append(made[names.mapped])
            trust.append(made[names.confidence][:, 0])
    finally:
        engine.close()
    return MapAnswer(unit(np.concatenate(mapped)), np.concatenate(trust))


def judge(subject: Subject, conditions: Mapping[str, Condition]) -> dict[str, Figures]:
    """Figures of each condition on the judging half, thresholds from the other."""
    fitted, judged = subject.subjects.halves(subject.first)
    found = {}
    for name, condition in conditions.items():
        test = condition.part(~subject.first)
        found[name] = Figures(
            protocol.rank_one(test, judged),
            protocol.acceptance(condition.part(subject.first), fitted, test, judged),
        )
    return found


def native_conditions(subject: Subject) -> dict[str, Condition]:
    """S|S, T|T and raw."""
    near, far = subject.faces, subject.distractors
    raw = protocol.padded(near.source, near.target.shape[1])
    return {
        "S|S": Condition(near.source, near.source, far.source),
        "T|T": Condition(near.target, near.target, far.target),
        "raw S|T": Condition(raw, near.target, far.target),
    }


def map_conditions(subject: Subject, near: MapAnswer, far: MapAnswer) -> dict[str, Condition]:
    """map|T, T|map and map|map."""
    target = (subject.faces.target, subject.distractors.target)
    return protocol.conditions(target, (near.mapped, far.mapped))


def native_report(subject: Subject) -> dict[str, Any]:
    """Figures of the two models by themselves, as JSON."""
    found = judge(subject, native_conditions(subject))
    return {name: described(figures) for name, figures in found.items()}


def map_report(
    subject: Subject, name: str, near: MapAnswer, far: MapAnswer, *, released: bool
) -> dict[str, Any]:
    """Figures of one map as JSON; ``rank1`` and ``tar_at_fmr`` are of map|T, all pairs."""
    found = judge(subject, map_conditions(subject, near, far))
    _, judged = subject.subjects.halves(subject.first)
    cosine = protocol.mean_cosine(
        near.mapped[~subject.first],
        subject.faces.target[~subject.first],
        judged,
        protocol.RESAMPLES,
    )
    head = found[HEADLINE]
    return {
        "name": name,
        "released": released,
        "rank1": head.rank1.rank1.estimate,
        "tar_at_fmr": {f"{fmr:g}": head.tar_at(fmr).tar.estimate for fmr in protocol.FMRS},
        "cosine": cosine.estimate,
        "cosine_interval": [cosine.low, cosine.high],
        "conditions": {key: described(figures) for key, figures in found.items()},
    }


def verdict(subject: Subject, near: MapAnswer, fmr: float = FMR) -> Verdict:
    """What to do with a gallery, judged on T|map."""
    live = Condition(subject.faces.target, near.mapped, near.mapped[:0])
    natives = native_conditions(subject)
    fitted, judged = subject.subjects.halves(subject.first)
    failed = {
        name: rejections(
            (condition.part(subject.first), fitted), (condition.part(~subject.first), judged), fmr
        )
        for name, condition in ((LIVE, live), ("S|S", natives["S|S"]), ("T|T", natives["T|T"]))
    }
    trust = near.confidence[~subject.first]
    return decide(failed[LIVE], failed["S|S"], failed["T|T"], trust, fmr)


def described(figures: Figures) -> dict[str, Any]:
    """All points of a condition; rates are fractions."""
    return {
        "rank": [asdict(point) for point in figures.rank],
        "tar": [asdict(point) for point in figures.tar],
    }
