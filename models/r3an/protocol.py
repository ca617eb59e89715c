"""The cross-model protocol (spec of the benchmarks, section 8): identification and verification.

A condition says which vectors are probes and which the gallery: S|S, T|T, raw, map|T, T|map,
map|map. Rank-1 is taken over all ordered pairs of two faces of one person against N distractors;
a tie counts as a miss. Thresholds come from other people than those that they are judged on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from models.evaluation.bootstrap import Interval, bootstrap_by_person
from models.evaluation.rates import FloatArray, threshold_at_fmr
from models.r3an.arrays import Bools, Floats, Ints

HEADLINE = "map|T"
LIVE = "T|map"
"""The service's real case: a new camera against a migrated gallery."""

COUNTS = (100, 1_000, 10_000, 20_000)
"""Distractors at the points of the curve; those that there are not enough for are left out."""

FMRS = (1e-2, 1e-3, 1e-4)
YAW_EDGES = (0.0, 15.0, 30.0, 45.0, 90.0)
"""Bins of a pair's larger |yaw|, degrees."""

RESAMPLES = 300
BLOCK = 512


@dataclass(frozen=True)
class Subjects:
    """Faces of known people.

    Attributes:
        person: (n,) numbers.
        yaw: (n,) degrees, NaN when unknown.
    """

    person: Ints
    yaw: Floats

    def halves(self, first: Bools) -> tuple[Subjects, Subjects]:
        """Split by a (n,) mask."""
        return tuple(  # type: ignore[return-value]
            Subjects(self.person[part], self.yaw[part]) for part in (first, ~first)
        )


@dataclass(frozen=True)
class RankPoint:
    """Rank-1 of one bin of pairs among so many distractors.

    Attributes:
        where: "all", or a bin of yaw.
        distractors: N.
        rank1: share of hits, interval over people.
        pairs: (probe, mate) pairs.
        people: of the pairs.
    """

    where: str
    distractors: int
    rank1: Interval
    pairs: int
    people: int


@dataclass(frozen=True)
class TarPoint:
    """True acceptance at a threshold that was fitted on other people.

    Attributes:
        where: "all", or a bin of yaw.
        fmr: target.
        threshold: similarity, fitted on the calibration people.
        tar: share of genuine comparisons accepted, interval over people.
        achieved: false-match rate on the judged people.
        impostors: comparisons behind that.
    """

    where: str
    fmr: float
    threshold: float
    tar: Interval
    achieved: float
    impostors: int


@dataclass(frozen=True)
class Condition:
    """Unit vectors of the same faces on both sides of the bar, and of the distractors.

    Attributes:
        probe: (n,d).
        gallery: (n,d).
        distractors: (m,d), from the gallery's side.
    """

    probe: Floats
    gallery: Floats
    distractors: Floats

    def part(self, rows: Bools) -> Condition:
        """Of some of the faces."""
        return Condition(self.probe[rows], self.gallery[rows], self.distractors)


@dataclass(frozen=True)
class Figures:
    """One condition's figures."""

    rank: list[RankPoint]
    tar: list[TarPoint]

    @property
    def rank1(self) -> RankPoint:
        """Of all pairs among all distractors."""
        return [point for point in self.rank if point.where == "all"][-1]

    def tar_at(self, fmr: float) -> TarPoint:
        """Of all pairs at a false-match rate."""
        return next(p for p in self.tar if p.where == "all" and p.fmr == fmr)


def bins_of(subjects: Subjects, first: Ints, second: Ints) -> dict[str, Bools]:
    """All pairs, and those of each bin of the larger |yaw|; a bin without pairs is left out."""
    yaw = np.abs(subjects.yaw)
    wider = np.maximum(yaw[first], yaw[second])
    found = {"all": np.ones(len(first), dtype=np.bool_)}
    for low, high in pairwise(YAW_EDGES):
        inside = (wider >= low) & (wider < high)
        if inside.any():
            found[f"yaw {low:.0f}-{high:.0f}"] = inside
    return found


def mated(person: Ints) -> tuple[Ints, Ints]:
    """All ordered pairs of two different faces of one person."""
    same = person[:, None] == person[None]
    np.fill_diagonal(same, val=False)
    first, second = np.nonzero(same)
    return first.astype(np.int64), second.astype(np.int64)


def rank_one(
    condition: Condition,
    subjects: Subjects,
    counts: Sequence[int] = COUNTS,
    resamples: int = RESAMPLES,
) -> list[RankPoint]:
    """The curve of rank-1 over the number of distractors, whole and per bin of yaw.

    The last point has all distractors. Faces of other people in the gallery do not count: only the
    mate and the distractors are in it.

    Raises:
        ValueError: no person has two faces, or there are no distractors.
    """
    total = len(condition.distractors)
    if not total:
        raise ValueError("there are no distractors")
    first, second = mated(subjects.person)
    if not len(first):
        raise ValueError("nobody has two faces")
    points = [count for count in counts if count < total] + [total]
    order = np.random.default_rng(0).permutation(total)
    hits = _hits(condition, (first, second), order, points)
    bins = bins_of(subjects, first, second)
    found = []
    for where, inside in bins.items():
        spans = _shares(hits[inside], subjects.person[first[inside]], resamples)
        people = len(np.unique(subjects.person[first[inside]]))
        found += [
            RankPoint(where, count, span, int(inside.sum()), people)
            for count, span in zip(points, spans, strict=True)
        ]
    return found


def rank_one_gain(
    made: Condition, base: Condition, subjects: Subjects, resamples: int = RESAMPLES
) -> Interval:
    """How much more often `made` finds the mate first than `base`, of the same pairs of faces.

    Both conditions are of the same faces and as many distractors, so that what is hard for both
    does not widen the interval.
    """
    pairs = mated(subjects.person)
    total = len(made.distractors)
    better, worse = (
        _hits(condition, pairs, np.arange(total), [total]) for condition in (made, base)
    )
    gains = better.astype(np.int64) - worse
    (span,) = _shares(gains, subjects.person[pairs[0]], resamples)
    return span


def _hits(
    condition: Condition, pairs: tuple[Ints, Ints], order: Ints, points: Sequence[int]
) -> Bools:
    """(P,len(points)): is the mate nearer than the first so many distractors of this order."""
    first, second = pairs
    best = _best_distractors(condition.probe, condition.distractors[order], points)
    own = np.einsum("pd,pd->p", condition.probe[first], condition.gallery[second])
    hits: Bools = own[:, None] > best[first]
    return hits


def _best_distractors(probe: Floats, distractors: Floats, points: Sequence[int]) -> Floats:
    """(n,len(points)): the largest similarity among the first so many distractors."""
    best = np.empty((len(probe), len(points)), np.float32)
    for start in range(0, len(probe), BLOCK):
        scores = probe[start : start + BLOCK] @ distractors.T
        edges = [0, *points]
        most = [scores[:, a:b].max(axis=1) for a, b in pairwise(edges)]
        best[start : start + BLOCK] = np.maximum.accumulate(np.stack(most, axis=1), axis=1)
    return best


def acceptance(
    calibration: Condition,
    calibration_subjects: Subjects,
    judged: Condition,
    subjects: Subjects,
    fmrs: Sequence[float] = FMRS,
    resamples: int = RESAMPLES,
) -> list[TarPoint]:
    """TAR at false-match rates, thresholds from the calibration people under the same condition.

    Every probe meets every gallery vector of another face.
    """
    _, impostors = compared(calibration, calibration_subjects)
    scores = judged.probe @ judged.gallery.T
    first, second = mated(subjects.person)
    genuine = scores[first, second]
    others = scores[subjects.person[:, None] != subjects.person[None]]
    bins = bins_of(subjects, first, second)
    found = []
    for fmr in fmrs:
        threshold = threshold_at_fmr(impostors, fmr)
        achieved = float((others >= threshold).mean())
        for where, inside in bins.items():
            accepted = (genuine[inside] >= threshold)[:, None]
            (span,) = _shares(accepted, subjects.person[first[inside]], resamples)
            found.append(TarPoint(where, fmr, threshold, span, achieved, len(others)))
    return found


def compared(condition: Condition, subjects: Subjects) -> tuple[Floats, Floats]:
    """Genuine and impostor similarities of every probe with every other face's gallery vector."""
    scores = condition.probe @ condition.gallery.T
    first, second = mated(subjects.person)
    impostor = subjects.person[:, None] != subjects.person[None]
    return scores[first, second], scores[impostor]


def mean_cosine(mapped: Floats, target: Floats, subjects: Subjects, resamples: int) -> Interval:
    """Mean cosine of mapped vectors to the target's own of the same faces."""
    cosines = np.einsum("nd,nd->n", mapped, target)[:, None]
    (span,) = _shares(cosines, subjects.person, resamples)
    return span


def padded(source: Floats, dimension: int) -> Floats:
    """Source vectors as if they were the target's: cut off or filled with zeros, unit length."""
    kept = source[:, :dimension]
    filled = np.pad(kept, ((0, 0), (0, dimension - kept.shape[1])))
    lengths = np.maximum(np.linalg.norm(filled, axis=1, keepdims=True), 1e-12)
    made: Floats = (filled / lengths).astype(np.float32)
    return made


def conditions(
    target: tuple[Floats, Floats], mapped: tuple[Floats, Floats]
) -> dict[str, Condition]:
    """The three conditions of a map; both arguments are vectors of (faces, distractors)."""
    return {
        "map|T": Condition(mapped[0], *target),
        "T|map": Condition(target[0], *mapped),
        "map|map": Condition(mapped[0], *mapped),
    }


def _shares(values: npt.NDArray[np.generic], person: Ints, resamples: int) -> list[Interval]:
    """Mean of each column of (P,K) values, with intervals over the (P,) people of its rows."""
    names, place = np.unique(person, return_inverse=True)
    counts = np.bincount(place).astype(np.float64)
    sums = np.stack(
        [np.bincount(place, weights=column) for column in values.T.astype(np.float64)], axis=1
    )

    def shares(weights: FloatArray) -> FloatArray:
        made: FloatArray = weights @ sums / (weights @ counts)
        return made

    return bootstrap_by_person(shares, names, names, resamples=resamples)
