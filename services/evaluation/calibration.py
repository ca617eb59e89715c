"""Fits a model's thresholds on every cross-person comparison of a set of pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.evaluation import FittedThreshold, fit_thresholds
from models.evaluation.bootstrap import IndexArray
from models.evaluation.thresholds import ScoreTile, Similarity, vector_scores
from models.zoo import ModelThreshold
from services.evaluation.alteration import Alteration, split_name
from services.evaluation.extract import Extraction
from services.evaluation.pairs import PairsError, person_of
from services.picture_files import pictures_below

Vectors = NDArray[np.floating]

TARGETS = (1e-2, 1e-3, 1e-4)


@dataclass(frozen=True)
class PictureSet:
    """The pictures below a folder, one sub-folder for each person."""

    root: Path
    paths: list[str]


def picture_set(root: Path) -> PictureSet:
    """Lists the pictures below a folder.

    Raises:
        PairsError: there are none, or all are of one person.
    """
    paths = sorted(
        str(path.relative_to(root))
        for path in pictures_below(root)
        if len(path.relative_to(root).parts) > 1
    )
    if len({person_of(path) for path in paths}) < 2:
        raise PairsError(f"{root} must hold a folder of pictures for each of several people.")
    return PictureSet(root, paths)


def fit(
    extractions: list[Extraction], alteration: Alteration | None = None
) -> list[FittedThreshold]:
    """Fits the thresholds, with 95 % intervals by bootstrap over people.

    Args:
        extractions: one for each set of pictures, all of one model. Pictures of different sets are
            not compared, because two sets may show the same person under different names.
        alteration: for comparisons of which the first picture is altered, the second as it is; the
            extractions then hold each picture both ways.

    Raises:
        ValueError: too few comparisons.
    """
    changed = alteration or Alteration()
    usable = [
        (number, person_of(path), plain, altered)
        for number, extraction in enumerate(extractions)
        for path, plain in extraction.vectors.items()
        if not split_name(path)[1]
        and plain is not None
        and (altered := extraction.vectors[changed.named(path)]) is not None
    ]
    metric = extractions[0].metric
    return fit_thresholds(
        _first_altered(
            np.stack([altered for _, _, _, altered in usable]),
            np.stack([plain for _, _, plain, _ in usable]),
            "negative_euclidean" if metric == "euclidean" else "cosine",
        ),
        [person for _, person, _, _ in usable],
        TARGETS,
        sets=[number for number, _, _, _ in usable],
    )


def _first_altered(altered: Vectors, plain: Vectors, similarity: Similarity) -> ScoreTile:
    """Scores comparisons of pictures by number: of two, that with the lower number is altered."""
    score = vector_scores(np.concatenate([altered, plain]), similarity)

    def tile(rows: IndexArray, columns: IndexArray) -> NDArray[np.float64]:
        upper = score(rows, columns + len(plain))
        lower = score(rows + len(plain), columns)
        return np.where(rows[:, None] <= columns[None], upper, lower)

    return tile


def for_card(fitted: list[FittedThreshold], data: str, command: str) -> list[ModelThreshold]:
    """The thresholds as a card holds them.

    Args:
        fitted: from `fit`.
        data: what they were fitted on, in words.
        command: what repeats it.
    """
    return [
        ModelThreshold(
            fmr=threshold.fmr,
            similarity=round(threshold.similarity, 6),
            interval=(round(threshold.low, 6), round(threshold.high, 6)),
            impostor_comparisons=threshold.impostor_comparisons,
            people=threshold.people,
            images=threshold.images,
            data=data,
            command=command,
        )
        for threshold in fitted
    ]
