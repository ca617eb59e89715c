"""What an alteration of faces gains in verification, with intervals over people."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.evaluation.bootstrap import Interval, bootstrap_by_person
from models.evaluation.rates import FloatArray, ThresholdSweep

Floats = npt.NDArray[np.floating]

FMRS = (1e-2, 1e-3)
RESAMPLES = 300


@dataclass(frozen=True)
class Gain:
    """TAR at one false-match rate, with intervals over people.

    Attributes:
        fmr: false-match rate.
        base: TAR of the faces as they are.
        made: TAR of the altered faces.
        gain: the difference, people drawn once for both.
    """

    fmr: float
    base: Interval
    made: Interval
    gain: Interval


def verification_gains(
    base: Floats,
    made: Floats,
    same: npt.NDArray[np.bool_],
    people_a: npt.NDArray[np.generic],
    people_b: npt.NDArray[np.generic],
    resamples: int = RESAMPLES,
) -> list[Gain]:
    """Gains at the false-match rates of `FMRS`; each side has a threshold of its own.

    Args:
        base: (P,) scores of the pairs with faces as they are.
        made: (P,) of the same pairs with altered ones.
        same: (P,) true for genuine pairs.
        people_a: (P,) who the first face shows.
        people_b: (P,) who the second shows.
        resamples: draws of people.
    """
    sweeps = [ThresholdSweep(scores, same) for scores in (base, made)]

    def tars(weights: FloatArray) -> list[float]:
        found = []
        curves = [sweep.curve(weights) for sweep in sweeps]
        for fmr in FMRS:
            pair = [
                curve.genuine_matches[curve.index_at_fmr(fmr)] / curve.genuine_total
                if curve.genuine_total and curve.impostor_total
                else float("nan")
                for curve in curves
            ]
            found += [*pair, pair[1] - pair[0]]
        return found

    spans = bootstrap_by_person(tars, people_a, people_b, resamples=resamples)
    return [Gain(fmr, *spans[3 * k : 3 * k + 3]) for k, fmr in enumerate(FMRS)]
