"""Verification accuracy on a list of pairs, and the figures that a card may quote."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.evaluation import (
    MatchRates,
    Pictures,
    VerificationReport,
    evaluate_pairs,
    match_rates,
)
from services.evaluation.extract import Extraction
from services.evaluation.pairs import Pair, PairsError, person_of

_FOLDS_IF_NONE = 10


@dataclass(frozen=True)
class PairScores:
    """Scores of pairs.

    Attributes:
        scores: similarity of each pair; ``-inf`` where a picture could not be enrolled.
        same: whether each shows one person.
        folds: fold of each.
    """

    scores: NDArray[np.float64]
    same: NDArray[np.bool_]
    folds: NDArray[np.str_]


def pictures_of(pairs: list[Pair]) -> list[str]:
    """Each picture of the pairs once, in order."""
    return sorted({path for pair in pairs for path in (pair.path1, pair.path2)})


def score_pairs(pairs: list[Pair], extraction: Extraction) -> PairScores:
    """Compares the two pictures of each pair.

    A pair list with a single fold is dealt out over ten, in its order, because a threshold must
    not be chosen on the pairs that it is judged on.
    """
    scores = np.full(len(pairs), -np.inf)
    for index, pair in enumerate(pairs):
        first, second = extraction.vectors[pair.path1], extraction.vectors[pair.path2]
        if first is None or second is None:
            continue
        if extraction.metric == "euclidean":
            scores[index] = -float(np.linalg.norm(first - second))
        else:
            norms = float(np.linalg.norm(first) * np.linalg.norm(second))
            scores[index] = float(np.dot(first, second)) / max(norms, 1e-12)
    folds = np.array([pair.fold for pair in pairs])
    if len(set(folds)) < 2:
        folds = np.array([str(index % _FOLDS_IF_NONE) for index in range(len(pairs))])
    return PairScores(scores, np.array([pair.same for pair in pairs]), folds)


def report(pairs: list[Pair], extraction: Extraction) -> tuple[VerificationReport, PairScores]:
    """Judges the scores of pairs; intervals by person where the same people stand in folders.

    Raises:
        PairsError: there are too few pairs, or not of both kinds.
    """
    scored = score_pairs(pairs, extraction)
    people = _people(pairs)
    try:
        found = evaluate_pairs(
            scored.scores,
            scored.same,
            scored.folds,
            people[0] if people else None,
            people[1] if people else None,
        )
    except ValueError as error:
        raise PairsError(f"These pairs cannot be judged: {error}.") from error
    return found, scored


def rates_of_all(
    pairs: list[Pair], extraction: Extraction, scored: PairScores
) -> MatchRates | None:
    """Rates at the thresholds of each first picture against the second ones of all other people.

    None where the folders do not say who the pictures show.

    Raises:
        PairsError: there are too few comparisons, or a vector has no direction.
    """
    if _people(pairs) is None:
        return None

    def side(paths: set[str]) -> Pictures:
        listed = sorted(paths)
        return Pictures(
            [person_of(path) for path in listed], [extraction.vectors[path] for path in listed]
        )

    try:
        return match_rates(
            side({one.path1 for one in pairs}),
            side({one.path2 for one in pairs}),
            scored.scores[scored.same],
            [person_of(one.path1) for one in pairs if one.same],
            similarity="negative_euclidean" if extraction.metric == "euclidean" else "cosine",
        )
    except ValueError as error:
        raise PairsError(f"These pairs cannot be judged: {error}.") from error


def as_json(
    found: VerificationReport, rates: MatchRates | None, extraction: Extraction
) -> dict[str, Any]:
    """The report as one object; accuracy and TAR in percent, EER and FTE as fractions.

    `all_comparisons` has TARs at the thresholds of `rates`; null where there are none.
    """
    pictures = len(extraction.vectors)
    every = None
    if rates is not None:
        every = {
            "impostor_comparisons": rates.impostor_comparisons,
            "tar_at_fmr": {f"{t:g}": round(v, 4) for t, v in rates.tar_at_fmr.items()},
            "tar_interval": {f"{t:g}": _rounded(v) for t, v in rates.tar_interval.items()},
        }
    return {
        "model": extraction.model,
        "pairs": found.pairs,
        "pictures": pictures,
        "enhanced_pictures": extraction.enhanced,
        "accuracy": round(found.accuracy, 4),
        "accuracy_se": round(found.accuracy_se, 4),
        "accuracy_interval": _rounded(found.accuracy_interval),
        "tar_at_fmr": {f"{t:g}": round(v, 4) for t, v in found.tar_at_fmr.items()},
        "tar_interval": {f"{t:g}": _rounded(v) for t, v in found.tar_interval.items()},
        "false_matches_allowed": {f"{t:g}": v for t, v in found.allowed.items()},
        "all_comparisons": every,
        "eer": round(found.eer, 6),
        "fte": round(len(extraction.failures) / pictures, 6),
        "failed_pictures": len(extraction.failures),
        "images_per_second": round(pictures / max(extraction.seconds, 1e-9), 2),
        "pictures_embedded": extraction.embedded,
        "folds": found.folds,
        "people": found.people,
    }


def plot(directory: Path, model: str, scored: PairScores) -> list[Path]:
    """Draws ROC, DET and score histograms as PNG and SVG; returns the files."""
    # A command that draws nothing does without matplotlib.
    from models.evaluation.plots import ScoreSet, write_curves  # noqa: PLC0415

    curves = {model: ScoreSet(scored.scores[scored.same], scored.scores[~scored.same])}
    return write_curves(directory, curves)


def _people(pairs: list[Pair]) -> tuple[list[str], list[str]] | None:
    """Who the first and the second pictures show; None where their folders contradict the pairs."""
    first = [person_of(pair.path1) for pair in pairs]
    second = [person_of(pair.path2) for pair in pairs]
    if any((a == b) != pair.same for a, b, pair in zip(first, second, pairs, strict=True)):
        return None
    return first, second


def _rounded(interval: tuple[float, float] | None) -> list[float] | None:
    return None if interval is None else [round(value, 4) for value in interval]
