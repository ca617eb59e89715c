"""True acceptance with an interval over people, for any list of comparisons."""

import numpy as np
from numpy.typing import NDArray

from models.evaluation.bootstrap import Interval, bootstrap_by_person
from models.evaluation.rates import FloatArray, ThresholdSweep


def tar_interval(
    scores: NDArray[np.floating],
    same: NDArray[np.bool_],
    people_a: NDArray[np.generic],
    people_b: NDArray[np.generic],
    fmr: float,
    resamples: int = 300,
) -> Interval:
    """True acceptance rate at a target false-match rate, threshold fitted anew in each resample.

    Args:
        scores: (N,) similarities.
        same: (N,) true for genuine comparisons.
        people_a: (N,) who the first sample shows.
        people_b: (N,) who the second sample shows.
        fmr: target, (0,1).
        resamples: draws of people.

    Raises:
        ValueError: as `bootstrap_by_person`.
    """
    sweep = ThresholdSweep(scores, same)

    def tar(weights: FloatArray) -> float:
        curve = sweep.curve(weights)
        if not curve.genuine_total or not curve.impostor_total:
            return float("nan")
        return float(curve.genuine_matches[curve.index_at_fmr(fmr)] / curve.genuine_total)

    return bootstrap_by_person(tar, people_a, people_b, resamples=resamples)[0]
