"""Templates of several images: how much each further probe image helps, and which fusion is best.

Each trial draws, for everybody with enough images, one reference and up to six probe images. The
probe's template is compared with everybody's reference. The same draws serve every fusion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from models.evaluation.bootstrap import Interval
from models.evaluation.intervals import tar_interval
from models.evaluation.rates import equal_error_rate

Fusion = Literal["weights", "mean", "best"]
FUSIONS: tuple[Fusion, ...] = ("weights", "mean", "best")
"""Weighted mean; plain mean; the one image with the largest weight."""

SIZES = (1, 2, 3, 4, 5, 6)
Vectors = NDArray[np.floating]


@dataclass(frozen=True)
class FusionPoint:
    """One fusion at one number of probe images.

    Attributes:
        fusion: how the template was made.
        images: probe images in it.
        tar: true acceptance rate at the target false-match rate, interval over people.
        eer: equal error rate.
        people: persons compared.
        genuine: genuine comparisons.
        impostor: impostor comparisons.
    """

    fusion: Fusion
    images: int
    tar: Interval
    eer: float
    people: int
    genuine: int
    impostor: int


def fused(vectors: Vectors, weights: Vectors, fusion: Fusion) -> Vectors:
    """Templates of unit length.

    Args:
        vectors: (...,n,d).
        weights: (...,n), above 0.
        fusion: how.

    Returns:
        (...,d).
    """
    if fusion == "best":
        best = np.argmax(weights, axis=-1)[..., None, None]
        mean = np.take_along_axis(vectors, best, axis=-2)[..., 0, :]
    else:
        share = weights if fusion == "weights" else np.ones_like(weights)
        mean = (vectors * share[..., None]).sum(axis=-2)
    unit: Vectors = mean / np.maximum(np.linalg.norm(mean, axis=-1, keepdims=True), 1e-12)
    return unit


def fusion_curve(
    vectors: Vectors,
    weights: Vectors,
    people: Sequence[str],
    *,
    sizes: Sequence[int] = SIZES,
    trials: int = 10,
    fmr: float = 1e-2,
    resamples: int = 300,
    seed: int = 0,
) -> list[FusionPoint]:
    """Measures every fusion at every number of probe images.

    Args:
        vectors: (N,d), as they are to be averaged: not of unit length for a model that learned
            its weights on such vectors.
        weights: (N,), above 0.
        people: N names.
        sizes: numbers of probe images.
        trials: draws per person.
        fmr: target false-match rate of the true acceptance rate.
        resamples: of the interval.
        seed: of the draws.

    Raises:
        ValueError: fewer than two persons have enough images.
    """
    names, person = np.unique(np.asarray(people), return_inverse=True)
    most = max(sizes)
    rows_of = [np.flatnonzero(person == k) for k in range(len(names))]
    enough = [rows for rows in rows_of if len(rows) > most]
    if len(enough) < 2:
        raise ValueError(f"{len(enough)} persons have the {most + 1} images that are needed")
    rng = np.random.default_rng(seed)
    drawn = np.array(
        [[rng.permutation(rows)[: most + 1] for rows in enough] for _ in range(trials)]
    )
    reference = fused(vectors[drawn[..., :1]], weights[drawn[..., :1]], "mean")
    count = len(enough)
    first = np.tile(np.repeat(np.arange(count), count), trials)
    second = np.tile(np.arange(count), count * trials)
    same = first == second
    points = []
    for images in sizes:
        chosen = drawn[..., 1 : 1 + images]
        for fusion in FUSIONS:
            probe = fused(vectors[chosen], weights[chosen], fusion)
            scores = np.einsum("tpd,trd->tpr", probe, reference).ravel()
            points.append(
                FusionPoint(
                    fusion=fusion,
                    images=images,
                    tar=tar_interval(scores, same, first, second, fmr, resamples),
                    eer=equal_error_rate(scores[same], scores[~same]).rate,
                    people=count,
                    genuine=int(same.sum()),
                    impostor=int((~same).sum()),
                )
            )
    return points


def rank_correlation(first: Vectors, second: Vectors) -> float:
    """Spearman's rank correlation of two lists; pairs with NaN are left out, NaN if too few."""
    known = np.isfinite(first) & np.isfinite(second)
    a, b = _ranks(first[known]), _ranks(second[known])
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(np.corrcoef(a, b)[0, 1])


def _ranks(values: Vectors) -> Vectors:
    """Ranks from 1, equal values sharing the mean of theirs; one 0 for an empty list."""
    if not values.size:
        return np.zeros(1)
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: Vectors = (np.cumsum(counts) - (counts - 1) / 2)[place]
    return ranks
