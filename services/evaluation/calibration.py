"""Fits a model's thresholds on every cross-person comparison of a set of pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.evaluation import FittedThreshold, fit_thresholds
from models.zoo import ModelThreshold
from services.evaluation.extract import Extraction
from services.evaluation.pairs import PairsError, person_of

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".heic")
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
        for path in root.rglob("*")
        if path.suffix.lower() in PICTURE_SUFFIXES and len(path.relative_to(root).parts) > 1
    )
    if len({person_of(path) for path in paths}) < 2:
        raise PairsError(f"{root} must hold a folder of pictures for each of several people.")
    return PictureSet(root, paths)


def fit(extractions: list[Extraction]) -> list[FittedThreshold]:
    """Fits the thresholds, with 95 % intervals by bootstrap over people.

    Args:
        extractions: one for each set of pictures, all of one model. Pictures of different sets are
            not compared, because two sets may show the same person under different names.

    Raises:
        ValueError: too few comparisons.
    """
    found = [
        (number, person_of(path), vector)
        for number, extraction in enumerate(extractions)
        for path, vector in extraction.vectors.items()
        if vector is not None
    ]
    metric = extractions[0].metric
    return fit_thresholds(
        np.stack([vector for _, _, vector in found]),
        [person for _, person, _ in found],
        TARGETS,
        similarity="negative_euclidean" if metric == "euclidean" else "cosine",
        sets=[number for number, _, _ in found],
    )


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
