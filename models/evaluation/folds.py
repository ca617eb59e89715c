"""Cross-validated verification accuracy, as in View 2 of the LFW protocol.

The threshold used on a fold never saw that fold: it is the most accurate one on all the others.
The published figure is the mean over the folds with its standard error.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.evaluation.rates import (
    LOWEST_THRESHOLD,
    FloatArray,
    ThresholdSweep,
    checked_scores,
)


@dataclass(frozen=True)
class FoldAccuracy:
    """Accuracy per fold, as fractions in [0, 1], in ascending order of the fold labels.

    `thresholds` (K,) are those chosen without the fold; `standard_error` is s / sqrt(K) with the
    sample standard deviation s (divisor K - 1).
    """

    labels: tuple[str, ...]
    accuracies: FloatArray
    thresholds: FloatArray
    mean: float
    standard_error: float


class FoldSplit:
    """Scores sorted once, whose fold accuracy can be taken under many weightings.

    Args:
        scores: similarities, shape (N,); ``-inf`` is a failed acquisition, never a match.
        same: shape (N,), true for genuine pairs.
        folds: fold label of each pair, shape (N,), integers or strings.

    Raises:
        ValueError: shapes differ, bad scores, fewer than two folds (a threshold judged on the
            pairs that chose it says nothing), or folds that leave only one kind of pair to
            choose a threshold on.
    """

    def __init__(self, scores: ArrayLike, same: ArrayLike, folds: ArrayLike) -> None:
        self._scores = checked_scores(scores)
        self._sweep = ThresholdSweep(self._scores, same)
        labels: NDArray[np.generic] = np.asarray(folds)
        if labels.shape != self._scores.shape:
            raise ValueError(f"{self._scores.size} scores but folds of shape {labels.shape}")
        names, self._fold = np.unique(labels, return_inverse=True)
        self.labels = tuple(str(name) for name in names)
        if len(self.labels) < 2:
            raise ValueError("accuracy needs at least two folds: one to choose on, one to judge")
        per_fold = np.bincount(self._fold, minlength=len(self.labels))
        genuine = np.bincount(self._fold[self._sweep.same], minlength=len(self.labels))
        others, other_genuine = per_fold.sum() - per_fold, genuine.sum() - genuine
        if np.any(other_genuine == 0) or np.any(other_genuine == others):
            raise ValueError("without one of the folds only one kind of pair is left")
        self._sign = np.where(self._sweep.same, 1.0, -1.0)

    def accuracies(self, weights: FloatArray | None = None) -> tuple[FloatArray, FloatArray]:
        """Return accuracies (K,) in [0, 1] and thresholds (K,), each pair counted `weights` times.

        A fold whose pairs all weigh nothing has accuracy NaN.
        """
        counted = np.ones(self._scores.size) if weights is None else weights
        # Lowering the threshold past a score gains its genuine pairs and loses its impostor pairs.
        gain = counted * self._sign
        total_gain = self._sweep.accepted(gain)
        accuracies = np.full(len(self.labels), np.nan)
        thresholds = np.empty(len(self.labels))
        for fold in range(len(self.labels)):
            inside = self._fold == fold
            fold_gain = self._sweep.accepted(gain * inside)
            # argmax takes the first of equals, and thresholds descend: the highest one.
            index = int(np.argmax(total_gain - fold_gain))
            thresholds[fold] = self._sweep.thresholds[index]
            if index == 0:
                index, thresholds[fold] = self._above_all(counted, inside)
            total = counted[inside].sum()
            if total > 0:
                impostors = counted[inside & ~self._sweep.same].sum()
                accuracies[fold] = (impostors + fold_gain[index]) / total
        return accuracies, thresholds

    def _above_all(self, counted: FloatArray, inside: NDArray[np.bool_]) -> tuple[int, float]:
        """Rejecting everything is best: the threshold just above what the other folds hold.

        A pair of the judged fold may still score higher, so its index is not always 0.
        """
        seen = self._scores[~inside & (counted > 0)]
        threshold = float(np.nextafter(seen.max(), np.inf)) if seen.size else LOWEST_THRESHOLD
        return int(np.count_nonzero(self._sweep.thresholds >= threshold)) - 1, threshold


def fold_accuracy(scores: ArrayLike, same: ArrayLike, folds: ArrayLike) -> FoldAccuracy:
    """Return the cross-validated verification accuracy (LFW, View 2).

    For each fold every distinct score of the other folds is tried as the threshold, and one just
    above them all (reject everything). Of equally accurate thresholds the highest is taken, the
    one with the fewest false matches.

    Args:
        scores: similarities, shape (N,); ``-inf`` is a failed acquisition, never a match.
        same: shape (N,), true for genuine pairs.
        folds: fold label of each pair, shape (N,); at least two different ones.

    Raises:
        ValueError: see `FoldSplit`.
    """
    split = FoldSplit(scores, same, folds)
    accuracies, thresholds = split.accuracies()
    return FoldAccuracy(
        labels=split.labels,
        accuracies=accuracies,
        thresholds=thresholds,
        mean=float(accuracies.mean()),
        standard_error=float(accuracies.std(ddof=1)) / math.sqrt(accuracies.size),
    )
