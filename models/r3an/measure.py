"""What a map is worth on people held out from its fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from models.evaluation.bootstrap import Interval
from models.evaluation.rates import threshold_at_fmr
from models.r3an import protocol
from models.r3an.arrays import Floats, Ints
from models.r3an.protocol import Condition, Figures, Subjects
from models.r3an.vectors import Pairs

Map = Callable[[Floats], npt.NDArray[np.float32]]
"""(N,d_S) unit vectors -> (N,d_T) unit vectors."""

Half = Literal["calibration", "test"]


@dataclass(frozen=True)
class Judged:
    """A map's figures in all conditions, and its mean cosine to the target's own vectors."""

    conditions: dict[str, Figures]
    cosine: Interval


def distractors_of(pairs: Pairs, half: Half) -> Ints:
    """Rows that are nobody of this half: the nameless held-out ones and the other half."""
    other = pairs.test if half == "calibration" else pairs.calibration
    return np.concatenate([pairs.distractors, other])


def rows_of(pairs: Pairs, half: Half) -> Ints:
    """Rows of one half of the held-out people."""
    return pairs.calibration if half == "calibration" else pairs.test


def subjects_of(pairs: Pairs, rows: Ints) -> Subjects:
    """Who is on these rows."""
    return Subjects(pairs.person[rows], pairs.yaw[rows])


STRICT_FMR = 1e-4
"""Where galleries of some size begin."""


@dataclass(frozen=True)
class Choice:
    """What is looked at to choose between maps, on the calibration people.

    Attributes:
        rank1: of map|T among all distractors.
        strict: TAR of T|map at `STRICT_FMR`, the threshold from the same people.
    """

    rank1: float
    strict: float

    @property
    def worth(self) -> float:
        """Finding a person is worth as much as being sure of it."""
        return self.rank1 + self.strict


def choice_figures(pairs: Pairs, apply: Map) -> Choice:
    """Figures to choose by."""
    rows = pairs.calibration
    target, made = pairs.target[rows, 0], apply(pairs.source[rows, 0])
    genuine, impostors = protocol.compared(
        Condition(target, made, made[:0]), subjects_of(pairs, rows)
    )
    threshold = threshold_at_fmr(impostors, STRICT_FMR)
    strict = float((genuine >= threshold).mean())
    return Choice(quick_figures(pairs, apply)["rank1"], strict)


def quick_figures(pairs: Pairs, apply: Map) -> dict[str, float]:
    """Mean cosine and rank-1 of map|T on the calibration people, among all distractors."""
    rows = pairs.calibration
    target = pairs.target[:, 0]
    made = apply(pairs.source[rows, 0])
    condition = Condition(made, target[rows], target[distractors_of(pairs, "calibration")])
    found = Figures(protocol.rank_one(condition, subjects_of(pairs, rows), resamples=1), [])
    cosine = float(np.einsum("nd,nd->n", made, target[rows]).mean())
    return {"cosine": cosine, "rank1": found.rank1.rank1.estimate}


def judge(
    pairs: Pairs,
    conditions: Callable[[Ints, Ints], dict[str, Condition]],
    resamples: int = protocol.RESAMPLES,
) -> dict[str, Figures]:
    """Figures on the test people, thresholds from the calibration people.

    Args:
        pairs: the faces.
        conditions: makes the conditions of rows of people and rows of distractors.
        resamples: of the intervals.
    """
    test = conditions(pairs.test, distractors_of(pairs, "test"))
    fitted = conditions(pairs.calibration, distractors_of(pairs, "calibration"))
    of_test, of_fitted = subjects_of(pairs, pairs.test), subjects_of(pairs, pairs.calibration)
    return {
        name: Figures(
            protocol.rank_one(test[name], of_test, resamples=resamples),
            protocol.acceptance(fitted[name], of_fitted, test[name], of_test, resamples=resamples),
        )
        for name in test
    }


def judge_map(pairs: Pairs, apply: Map, resamples: int = protocol.RESAMPLES) -> Judged:
    """A map in its three conditions."""

    def made(rows: Ints, others: Ints) -> dict[str, Condition]:
        target = pairs.target[:, 0]
        mapped = (apply(pairs.source[rows, 0]), apply(pairs.source[others, 0]))
        return protocol.conditions((target[rows], target[others]), mapped)

    found = judge(pairs, made, resamples)
    rows = pairs.test
    cosine = protocol.mean_cosine(
        apply(pairs.source[rows, 0]), pairs.target[rows, 0], subjects_of(pairs, rows), resamples
    )
    return Judged(found, cosine)


def judge_native(pairs: Pairs, resamples: int = protocol.RESAMPLES) -> dict[str, Figures]:
    """S|S, T|T, and source vectors taken for the target's as if they were."""

    def made(rows: Ints, others: Ints) -> dict[str, Condition]:
        source, target = pairs.source[:, 0], pairs.target[:, 0]
        raw = protocol.padded(source[rows], target.shape[1])
        return {
            "S|S": Condition(source[rows], source[rows], source[others]),
            "T|T": Condition(target[rows], target[rows], target[others]),
            "raw S|T": Condition(raw, target[rows], target[others]),
        }

    return judge(pairs, made, resamples)
