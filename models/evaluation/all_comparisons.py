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
    HighestScores,
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
        highest = _highest(first, second, rows, columns, similarity, length)
        tail = CrossTail(
            *highest.descending(),
            images=images,
            complete=highest.complete,
            sets=np.zeros(count, dtype=np.intp),
            seconds=seconds,
        )
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
) -> HighestScores:
    """The highest cross-person scores of pictures that have vectors."""
    highest = HighestScores(length)
    above, beside = (
        np.array([place for place, one in enumerate(side.vectors) if one is not None], np.intp)
        for side in (first, second)
    )
    if not above.size or not beside.size:
        return highest
    kept = [one for side in (first, second) for one in side.vectors if one is not None]
    score = vector_scores(np.stack(kept), similarity)
    row_people, column_people = rows[above], columns[beside]
    for top in range(0, above.size, TILE):
        upper = np.arange(top, min(top + TILE, above.size))
        for left in range(0, beside.size, TILE):
            across = np.arange(left, min(left + TILE, beside.size))
            tile = np.asarray(score(upper, above.size + across), dtype=np.float64)
            others = row_people[upper][:, None] != column_people[across][None]
            row, column = np.nonzero(others & (tile > highest.floor))
            highest.add(tile[row, column], row_people[upper][row], column_people[across][column])
    return highest
