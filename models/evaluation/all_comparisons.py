"""True match rates at thresholds of every cross-person comparison that a list's pictures allow.

A list of pairs holds few impostor pairs: of 900, an FMR of 1e-3 hangs on the highest one. Each
first picture compared with the second pictures of all other people gives thousands of times as
many. They are not independent, so the intervals are by person.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.evaluation.bootstrap import (
    CrossTail,
    IndexArray,
    TailExhaustedError,
    bootstrap_match_rates,
    person_indices,
)
from models.evaluation.rates import FloatArray, allowed_false_matches, checked_scores
from models.evaluation.thresholds import (
    SHORTEST_TAIL,
    TAIL_MARGIN,
    TILE,
    ScoreTile,
    Similarity,
    vector_scores,
)

Vector = NDArray[np.floating]
Bounds = tuple[float, float]


@dataclass(frozen=True)
class Pictures:
    """One side of the comparisons.

    Attributes:
        people: who each picture shows, N names.
        vectors: N, each (D,); None where acquisition failed: it is compared and never matches.
    """

    people: Sequence[Hashable]
    vectors: Sequence[Vector | None]


@dataclass(frozen=True)
class MatchRates:
    """True match rates of genuine pairs, in percent, with 95 % intervals over people.

    `impostor_comparisons` is the number behind the thresholds.
    """

    tar_at_fmr: dict[float, float]
    tar_interval: dict[float, Bounds]
    impostor_comparisons: int


def match_rates(
    first: Pictures,
    second: Pictures,
    genuine: Sequence[float] | FloatArray,
    genuine_people: Sequence[Hashable],
    *,
    similarity: Similarity = "cosine",
    targets: Sequence[float] = (1e-3, 1e-4),
    resamples: int = 1000,
    seed: int = 0,
) -> MatchRates:
    """Rate genuine pairs at the thresholds of all comparisons of first with second pictures.

    Args:
        first: pictures that are compared with those of `second`.
        second: likewise; a picture may be in both.
        genuine: scores of the genuine pairs, shape (G,); ``-inf`` where acquisition failed.
        genuine_people: who each of those shows, G names, all among the pictures' people.
        similarity: how vectors are compared.
        targets: FMRs in [0, 1]; memory and time grow with the largest.
        resamples: draws of people for the intervals.
        seed: makes the intervals repeatable.

    Raises:
        ValueError: lengths differ, there is no comparison of a kind, or vectors or scores are not
            as said.
    """
    scores = checked_scores(genuine, "genuine")
    if scores.size != len(genuine_people):
        raise ValueError(f"{scores.size} genuine scores but {len(genuine_people)} people")
    for side in (first, second):
        if len(side.people) != len(side.vectors):
            raise ValueError(f"{len(side.vectors)} vectors but {len(side.people)} people")
    count, (rows, columns, of_genuine) = person_indices(first.people, second.people, genuine_people)
    images = np.bincount(rows, minlength=count).astype(np.float64)
    seconds = np.bincount(columns, minlength=count).astype(np.float64)
    comparisons = round(images.sum() * seconds.sum() - (images * seconds).sum())
    if comparisons == 0:
        raise ValueError("a threshold needs pictures of at least two people")
    most = max(allowed_false_matches(target, comparisons) for target in targets)
    length = max(TAIL_MARGIN * (most + 1), SHORTEST_TAIL)
    while True:
        found, pairs, complete = _highest(first, second, rows, columns, similarity, length)
        one_set = np.zeros(count, dtype=np.intp)
        tail = CrossTail(found, pairs[0], pairs[1], images, complete, one_set, seconds)
        try:
            rates = bootstrap_match_rates(
                tail, scores, of_genuine, targets, resamples=resamples, seed=seed
            )
        except TailExhaustedError:
            length *= 4
        else:
            break
    named = list(zip(targets, rates, strict=True))
    return MatchRates(
        tar_at_fmr={target: 100 * rate.estimate for target, rate in named},
        tar_interval={target: (100 * rate.low, 100 * rate.high) for target, rate in named},
        impostor_comparisons=comparisons,
    )


def _highest(
    first: Pictures,
    second: Pictures,
    rows: IndexArray,
    columns: IndexArray,
    similarity: Similarity,
    length: int,
) -> tuple[FloatArray, IndexArray, bool]:
    """The highest cross-person scores, descending; the two people of each; whether that is all."""
    there = [
        np.array([place for place, one in enumerate(side.vectors) if one is not None], np.intp)
        for side in (first, second)
    ]
    scores, pairs = np.empty(0), np.empty((2, 0), dtype=np.intp)
    if not there[0].size or not there[1].size:
        return scores, pairs, True
    kept = [one for side in (first, second) for one in side.vectors if one is not None]
    score: ScoreTile = vector_scores(np.stack(kept), similarity)
    row_people, column_people = rows[there[0]], columns[there[1]]
    right = there[0].size + np.arange(there[1].size)
    floor, complete = -np.inf, True
    for start in range(0, there[0].size, TILE):
        above = np.arange(start, min(start + TILE, there[0].size))
        for beside in range(0, right.size, TILE):
            tile = score(above, right[beside : beside + TILE])
            others = column_people[beside : beside + TILE]
            row, column = np.nonzero((row_people[above][:, None] != others[None]) & (tile > floor))
            scores = np.append(scores, tile[row, column])
            told = np.stack([row_people[above][row], others[column]])
            pairs = np.concatenate([pairs, told], axis=1)
            if scores.size > length:
                best = np.argpartition(scores, scores.size - length)[-length:]
                scores, pairs = scores[best], pairs[:, best]
                floor, complete = float(scores.min()), False
    order = np.argsort(-scores, kind="stable")
    return scores[order], pairs[:, order], complete
