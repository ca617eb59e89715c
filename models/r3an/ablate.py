"""The rows of the method's Table 3, judged on people whom no training saw, beside ridge regression.

Every row starts from the same seed and sees the same faces in the same order. A row's gain over FC
is taken of the same pairs of faces: its interval is narrower than those of both rows let expect.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table
from torch import nn

from models.evaluation.bootstrap import Interval
from models.r3an import linear, protocol
from models.r3an.arrays import Floats
from models.r3an.mappers import AffineMap, mapped
from models.r3an.measure import distractors_of, judge_native, subjects_of
from models.r3an.protocol import HEADLINE, LIVE, Condition
from models.r3an.report import percent
from models.r3an.train import NAN
from models.r3an.vectors import Pairs

BASELINE = "FC"
RIDGE = "ridge"
NATIVE = ("S|S", "T|T")


@dataclass(frozen=True)
class Outcome:
    """One row of the table.

    Attributes:
        name: a row of Table 3, `RIDGE`, or one of `NATIVE`.
        rank1: by condition, on the test people; empty where the training diverged.
        gain: of rank-1 map|T over FC on the same pairs; None without both.
        cosine: mean, to the target's own vectors; None without a map.
    """

    name: str
    rank1: dict[str, Interval]
    gain: Interval | None = None
    cosine: Interval | None = None


class Judge:
    """Measures the rows one after another; FC first, for the gain over it.

    Args:
        pairs: vectors of both models.
        resamples: of the intervals.
    """

    def __init__(self, pairs: Pairs, resamples: int = protocol.RESAMPLES):
        self.pairs, self.resamples = pairs, resamples
        self._subjects = subjects_of(pairs, pairs.test)
        self._baseline: Condition | None = None

    def first(self) -> list[Outcome]:
        """Both models by themselves, and the linear map that every row has to beat."""
        native = judge_native(self.pairs, self.resamples)
        source, target, _ = self.pairs.learned()
        ridge = AffineMap(linear.ridge(source, target)).eval()
        return [
            *(Outcome(name, {name: native[name].rank1.rank1}) for name in NATIVE),
            self.of(RIDGE, ridge),
        ]

    def of(self, name: str, network: nn.Module | None) -> Outcome:
        """A row's figures.

        Args:
            name: of the row.
            network: its map in evaluation mode on the CPU; None where the training diverged.
        """
        if network is None:
            return Outcome(name, {})
        rows, others = self.pairs.test, distractors_of(self.pairs, "test")

        def made(of: Floats) -> Floats:
            return mapped(network, of)

        source, target = self.pairs.source[:, 0], self.pairs.target[:, 0]
        own = made(source[rows])
        ways = protocol.conditions((target[rows], target[others]), (own, made(source[others])))
        if name == BASELINE:
            self._baseline = ways[HEADLINE]
        rank1 = {
            way: protocol.rank_one(ways[way], self._subjects, (), self.resamples)[0].rank1
            for way in (HEADLINE, LIVE)
        }
        gain = None
        if self._baseline is not None and name != BASELINE:
            gain = protocol.rank_one_gain(
                ways[HEADLINE], self._baseline, self._subjects, self.resamples
            )
        cosine = protocol.mean_cosine(own, target[rows], self._subjects, self.resamples)
        return Outcome(name, rank1, gain, cosine)


def outcome_table(outcomes: Sequence[Outcome], arrow: str) -> Table:
    """One row per outcome, shares in percent with 95 % intervals over people.

    Args:
        outcomes: in the order of the table.
        arrow: the two models.
    """
    table = Table(title=f"{arrow}: rank-1, test people, percent [95 % over people]")
    for name in ("row", HEADLINE, f"gain over {BASELINE}", LIVE, "mean cosine"):
        table.add_column(name, justify="left" if name == "row" else "right")
    for outcome in outcomes:
        found = outcome.rank1
        if outcome.name in NATIVE:
            table.add_row(outcome.name, percent(found[outcome.name]))
            continue
        table.add_row(
            outcome.name,
            percent(found[HEADLINE]) if found else NAN,
            percent(outcome.gain) if outcome.gain else "",
            percent(found[LIVE]) if found else "",
            f"{outcome.cosine.estimate:.3f}" if outcome.cosine else "",
        )
    return table
