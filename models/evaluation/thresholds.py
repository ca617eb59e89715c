"""Decision thresholds fitted on every cross-person comparison of a set of images.

A few thousand images give millions of impostor comparisons, enough for an FMR of 1e-4 and lower.
They are scored tile by tile and only the upper tail is kept, which is all that a low FMR depends
on; the thresholds are exact all the same.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.evaluation.bootstrap import (
    ImpostorTail,
    IndexArray,
    TailExhaustedError,
    bootstrap_thresholds,
    person_indices,
)
from models.evaluation.rates import FloatArray, allowed_false_matches

ScoreTile = Callable[[IndexArray, IndexArray], NDArray[np.floating]]
"""Given image numbers (R,) and (C,), their similarities (R, C); symmetric in its arguments."""

Similarity = Literal["cosine", "negative_euclidean"]

TILE = 1024
"""Images on each side of a tile: 8 MiB of float64 scores at a time."""
TAIL_MARGIN = 3
"""Scores kept per false match allowed, so that resamples which need more still find them."""
SHORTEST_TAIL = 10_000
"""Scores kept at least: with few false matches allowed, resamples vary more."""


@dataclass(frozen=True)
class FittedThreshold:
    """A similarity threshold for a target FMR, with its 95 % interval over people.

    `similarity` is the smallest threshold at which the FMR over the `impostor_comparisons`
    (cross-person pairs of `images` images of `people` people) is at most `fmr`; `low` and `high`
    bound it by bootstrap over people. Match if and only if the similarity is not below it.
    """

    fmr: float
    similarity: float
    low: float
    high: float
    impostor_comparisons: int
    people: int
    images: int


def vector_scores(vectors: NDArray[np.floating], similarity: Similarity = "cosine") -> ScoreTile:
    """Return the function that scores tiles of embeddings, in float64.

    Args:
        vectors: shape (N, D); they need not be normalised.
        similarity: "cosine" in [-1, 1], or "negative_euclidean", -||a - b||, at most 0.

    Raises:
        ValueError: not two-dimensional, not finite, or (for the cosine) a vector of length zero.
    """
    if vectors.ndim != 2:
        raise ValueError(f"expected vectors of shape (N, D), got {vectors.shape}")
    squares = np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64)
    if not np.isfinite(squares).all():
        raise ValueError("a vector holds NaN or infinity; mark failed images in `acquired`")
    if similarity == "cosine" and not squares.all():
        raise ValueError("a vector of length zero has no direction; mark it in `acquired`")
    lengths = np.sqrt(squares)

    def score(rows: IndexArray, columns: IndexArray) -> FloatArray:
        products = vectors[rows].astype(np.float64) @ vectors[columns].astype(np.float64).T
        if similarity == "cosine":
            scores: FloatArray = products / (lengths[rows, None] * lengths[columns])
        else:
            distances = squares[rows, None] + squares[columns] - 2 * products
            scores = -np.sqrt(np.maximum(distances, 0.0))
        return scores

    return score


def _tiles(count: int) -> Iterator[tuple[slice, slice]]:
    """Cover each pair of images once, those on the diagonal tiles twice."""
    starts = range(0, count, TILE)
    for top in starts:
        for left in starts[top // TILE :]:
            yield slice(top, top + TILE), slice(left, left + TILE)


class HighestScores:
    """The largest scores of those that are added, and the two people of each.

    Args:
        length: scores to keep, at least 1.

    Attributes:
        floor: what is not above it need not be added.
        complete: nothing has been left out.
    """

    def __init__(self, length: int) -> None:
        self.floor, self.complete = -np.inf, True
        self._length = length
        self._scores = np.empty(0)
        self._people = np.empty((2, 0), dtype=np.intp)

    def add(self, scores: FloatArray, person_a: IndexArray, person_b: IndexArray) -> None:
        """Add M scores of comparisons of the numbered people, each of shape (M,)."""
        self._scores = np.append(self._scores, scores)
        self._people = np.concatenate([self._people, np.stack([person_a, person_b])], axis=1)
        if self._scores.size > self._length:
            kept = np.argpartition(self._scores, self._scores.size - self._length)[-self._length :]
            self._scores, self._people = self._scores[kept], self._people[:, kept]
            self.floor, self.complete = float(self._scores.min()), False

    def descending(self) -> tuple[FloatArray, IndexArray, IndexArray]:
        """Scores, and the people of each on either side."""
        order = np.argsort(-self._scores, kind="stable")
        first, second = self._people[:, order]
        return self._scores[order], first, second


def impostor_tail(
    score: ScoreTile,
    images: IndexArray,
    person: IndexArray,
    length: int,
    sets: IndexArray | None = None,
) -> ImpostorTail:
    """Score all cross-person comparisons and keep the `length` largest finite ones.

    Args:
        score: gives the similarities of two lists of image numbers.
        images: numbers of the images that take part, shape (N,).
        person: person of each, shape (N,), in 0..P-1 without gaps.
        length: scores to keep, at least 1. Memory grows with it and not with N squared.
        sets: set of each person, shape (P,); only people of one set are compared.

    Raises:
        ValueError: a score is NaN or ``+inf``, or a tile has the wrong shape.
    """
    set_of = np.zeros(int(person.max()) + 1, dtype=np.intp) if sets is None else sets
    highest = HighestScores(length)
    for rows, columns in _tiles(images.size):
        tile = np.asarray(score(images[rows], images[columns]), dtype=np.float64)
        if tile.shape != (images[rows].size, images[columns].size):
            raise ValueError(f"the score function returned shape {tile.shape}")
        counted = person[rows, None] != person[None, columns]
        counted &= set_of[person[rows]][:, None] == set_of[person[columns]][None]
        if rows == columns:
            counted = np.triu(counted, k=1)
        if np.any(counted & ~(tile < np.inf)):
            raise ValueError("a score is NaN or +inf")
        row, column = np.nonzero(counted & (tile > highest.floor))
        highest.add(tile[row, column], person[rows][row], person[columns][column])
    scores, person_a, person_b = highest.descending()
    return ImpostorTail(
        scores=scores,
        person_a=person_a,
        person_b=person_b,
        images=np.bincount(person).astype(np.float64),
        complete=highest.complete,
        sets=set_of,
    )


def _only_acquired(score: ScoreTile, acquired: NDArray[np.bool_]) -> ScoreTile:
    def guarded(rows: IndexArray, columns: IndexArray) -> FloatArray:
        tile = np.full((rows.size, columns.size), -np.inf)
        good_rows, good_columns = np.flatnonzero(acquired[rows]), np.flatnonzero(acquired[columns])
        tile[np.ix_(good_rows, good_columns)] = score(rows[good_rows], columns[good_columns])
        return tile

    return guarded


def _flags(acquired: ArrayLike, names: Sequence[Hashable]) -> NDArray[np.bool_]:
    usable: NDArray[np.bool_] = np.asarray(acquired, dtype=np.bool_)
    if usable.shape != (len(names),):
        raise ValueError(f"{len(names)} people but `acquired` of shape {usable.shape}")
    return usable


def _comparisons(person: IndexArray, set_of: IndexArray) -> int:
    """Cross-person comparisons within sets."""
    images = np.bincount(person)
    in_sets = np.bincount(set_of, weights=images).astype(np.int64)
    return (int((in_sets**2).sum()) - int((images**2).sum())) // 2


def fit_thresholds(
    source: NDArray[np.floating] | ScoreTile,
    people: Sequence[Hashable] | NDArray[np.generic],
    targets: Sequence[float] = (1e-2, 1e-3, 1e-4),
    *,
    similarity: Similarity = "cosine",
    acquired: ArrayLike | None = None,
    sets: Sequence[Hashable] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> list[FittedThreshold]:
    """Fit a threshold per target FMR on all cross-person comparisons of N images.

    Args:
        source: embeddings, shape (N, D), or a function that scores image numbers (`ScoreTile`).
        people: who each image shows, N names; None or "" is an unknown person, whose images take
            no part, since a comparison with them may be genuine.
        targets: FMRs in [0, 1]; memory and time grow with the largest. A target below
            1 / comparisons yields the largest score, which does not show that it is met.
        similarity: how embeddings are compared; not used with a function.
        acquired: shape (N,), false where acquisition failed: those comparisons count and never
            match (ISO/IEC 19795-1 treats them apart; here they enter as score ``-inf``).
        sets: set of images that each belongs to, N names. Images of different sets are not
            compared and a person belongs to one set, since two sets may show the same people
            under other names.
        resamples: draws of people for the 95 % interval.
        seed: makes the interval repeatable.

    Returns:
        One `FittedThreshold` per target, in the order asked.

    Raises:
        ValueError: fewer than two known people, no target, lengths that differ, vectors or
            scores that are not finite, or a target outside [0, 1].
    """
    if len(targets) == 0:
        raise ValueError("no target FMR")
    names = list(people)
    if not callable(source) and len(source) != len(names):
        raise ValueError(f"{len(source)} vectors but {len(names)} people")
    if callable(source):
        score = source if acquired is None else _only_acquired(source, _flags(acquired, names))
    elif acquired is None:
        score = vector_scores(source, similarity)
    else:
        # What a failed image left in its row may be anything; it is never scored.
        usable = _flags(acquired, names)
        filled = np.where(usable[:, None], source, np.ones_like(source))
        score = _only_acquired(vector_scores(filled, similarity), usable)
    named = [number for number, name in enumerate(names) if name is not None and name != ""]
    known = np.array(named, dtype=np.intp)
    labels = [0] * len(names) if sets is None else list(sets)
    if len(labels) != len(names):
        raise ValueError(f"{len(names)} people but {len(labels)} sets")
    count, (person,) = person_indices((labels[number], names[number]) for number in named)
    _, (set_of_image,) = person_indices(labels[number] for number in named)
    set_of = np.zeros(count, dtype=np.intp)
    set_of[person] = set_of_image
    comparisons = _comparisons(person, set_of)
    if comparisons == 0:
        raise ValueError("a threshold needs images of at least two known people")
    most = max(allowed_false_matches(target, comparisons) for target in targets)
    length = max(TAIL_MARGIN * (most + 1), SHORTEST_TAIL)
    while True:
        tail = impostor_tail(score, known, person, length, set_of)
        try:
            fitted = bootstrap_thresholds(tail, targets, resamples=resamples, seed=seed)
        except TailExhaustedError:
            length *= 4
        else:
            break
    return [
        FittedThreshold(
            fmr=target,
            similarity=interval.estimate,
            low=interval.low,
            high=interval.high,
            impostor_comparisons=comparisons,
            people=count,
            images=known.size,
        )
        for target, interval in zip(targets, fitted, strict=True)
    ]
