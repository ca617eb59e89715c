"""False matches by age, gender and ethnicity, on aligned faces without identities.

Every two faces of a group are compared as if they were two people's. With thousands of people and
hardly any picture of the same one twice, nearly all of them are. A group whose false-match rate at
one threshold is higher is one whose members Mien takes for each other more often.
"""

from __future__ import annotations

import csv
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from services.evaluation.pairs import PairsError

Vectors = NDArray[np.float32]

ATTRIBUTES = ("gender", "ethnicity", "age")
AGE_BANDS = ((18, 30), (30, 45), (45, 60), (60, 120))
MOST = 2000
"""Faces of a group that are compared with each other: two million comparisons."""

_RESAMPLES = 200
_SEED = 11


@dataclass(frozen=True)
class LabelledFaces:
    """Aligned faces and what is known of each.

    Attributes:
        crops: N x height x width x 3, RGB, 0-255.
        groups: N names of groups for each of `ATTRIBUTES`, empty where nothing is known.
    """

    crops: NDArray[np.uint8]
    groups: dict[str, list[str]]


@dataclass(frozen=True)
class GroupScores:
    """How alike the faces of a group are to each other.

    Attributes:
        attribute: one of `ATTRIBUTES`, or "all".
        group: its name.
        faces: how many were compared.
        comparisons: of two faces each.
        mean: similarity.
        deviation: standard deviation of it.
        fmr: share of comparisons at or above the threshold.
        interval: of that, 95 %, by bootstrap over faces.
    """

    attribute: str
    group: str
    faces: int
    comparisons: int
    mean: float
    deviation: float
    fmr: float
    interval: tuple[float, float]


def read_labelled(folder: Path, side: int) -> LabelledFaces:
    """Reads the faces of a folder whose `index.tsv` names age, gender or ethnicity.

    Args:
        folder: `index.tsv` (path, age, gender, ethnicity) beside tar files of square crops.
        side: pixels; what lies around the central square is cut off.

    Raises:
        PairsError: there is no index, nothing is labelled, or a picture is missing or too small.
    """
    try:
        with (folder / "index.tsv").open(newline="", encoding="utf-8") as file:
            rows = {row["path"]: row for row in csv.DictReader(file, delimiter="\t")}
    except (OSError, KeyError, UnicodeError) as error:
        raise PairsError(f"{folder / 'index.tsv'} cannot be read.") from error
    wanted = {path: row for path, row in rows.items() if row.get("gender") or row.get("ethnicity")}
    if not wanted:
        raise PairsError(f"{folder / 'index.tsv'} labels no face with gender or ethnicity.")
    found = {name: _central(data, side, name) for name, data in _members(folder, wanted)}
    missing = len(wanted) - len(found)
    if missing:
        raise PairsError(f"{missing} labelled pictures of the index are in no tar of {folder}.")
    labels = [wanted[name] for name in found]
    return LabelledFaces(
        np.stack(list(found.values())),
        {
            "gender": [row.get("gender") or "" for row in labels],
            "ethnicity": [row.get("ethnicity") or "" for row in labels],
            "age": [_band(row.get("age") or "") for row in labels],
        },
    )


def _members(folder: Path, wanted: dict[str, dict[str, str]]) -> Iterator[tuple[str, bytes]]:
    sources = {path.split("/", 1)[0] for path in wanted}
    for archive in sorted(folder.glob("*.tar")):
        if archive.stem not in sources:
            continue
        with tarfile.open(archive) as tar:
            for member in tar:
                name = member.name.removeprefix("./")
                file = tar.extractfile(member) if name in wanted else None
                if file is not None:
                    yield name, file.read()


def _central(data: bytes, side: int, name: str) -> NDArray[np.uint8]:
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if picture is None or min(picture.shape[:2]) < side:
        raise PairsError(f"{name} is no picture of at least {side} x {side} pixels.")
    top, left = ((length - side) // 2 for length in picture.shape[:2])
    central = picture[top : top + side, left : left + side, ::-1]
    return np.ascontiguousarray(central, dtype=np.uint8)


def _band(age: str) -> str:
    if not age.isdigit():
        return ""
    for low, high in AGE_BANDS:
        if low <= int(age) < high:
            return f"{low}-{high - 1}"
    return ""


def group_scores(
    vectors: Vectors, groups: dict[str, list[str]], threshold: float
) -> list[GroupScores]:
    """Scores within each group, and over all faces.

    Args:
        vectors: N x dimension, of unit length.
        groups: N names for each attribute; empty names belong to no group.
        threshold: cosine from which two faces match.
    """
    rng = np.random.default_rng(_SEED)
    found = [_scores("all", "all", vectors, threshold, rng)]
    for attribute, names in groups.items():
        column = np.array(names)
        found += [
            _scores(attribute, group, vectors[column == group], threshold, rng)
            for group in sorted({name for name in names if name})
        ]
    return found


def _scores(
    attribute: str, group: str, vectors: Vectors, threshold: float, rng: np.random.Generator
) -> GroupScores:
    if len(vectors) > MOST:
        vectors = vectors[rng.choice(len(vectors), MOST, replace=False)]
    scores = vectors @ vectors.T
    upper = scores[np.triu_indices(len(vectors), 1)].astype(np.float64)
    if not len(upper):
        empty = float("nan")
        return GroupScores(attribute, group, len(vectors), 0, empty, empty, empty, (empty, empty))
    matches = (scores >= threshold).astype(np.float32)
    np.fill_diagonal(matches, 0.0)
    spread = _resampled(matches, rng)  # never empty: of two faces, both are drawn half of the time
    return GroupScores(
        attribute,
        group,
        len(vectors),
        len(upper),
        float(upper.mean()),
        float(upper.std()),
        float((upper >= threshold).mean()),
        (float(np.quantile(spread, 0.025)), float(np.quantile(spread, 0.975))),
    )


def _resampled(matches: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float64]:
    """False-match rates of `_RESAMPLES` draws of as many faces; a face is not compared with itself.

    A draw is a count for each face; pairs of one face drawn twice have no place in the diagonal.
    """
    count = len(matches)
    draws = rng.multinomial(count, np.full(count, 1 / count), size=_RESAMPLES).astype(np.float32)
    matched = np.einsum("ri,ri->r", draws @ matches, draws).astype(np.float64)
    compared = np.square(draws.sum(axis=1)) - np.square(draws).sum(axis=1)
    drawn = compared > 0  # not when a small group gave one face only
    rates: NDArray[np.float64] = matched[drawn] / compared[drawn]
    return rates
