"""Measured gains as an enhancer's card keeps them."""

from __future__ import annotations

from collections.abc import Iterable

from models.ddat.degradations import eye_distance
from models.evaluation.bootstrap import Interval
from models.training.gains import Gain
from models.zoo.enhancer_card import GainPoint, Rate


def gain_points(domain: str, side: int, gains: Iterable[Gain]) -> list[GainPoint]:
    """The gains of one way to alter faces at one size.

    Args:
        domain: how faces were altered.
        side: pixels left across the crop.
        gains: one for each false-match rate.
    """
    return [
        GainPoint(
            domain=domain,
            side=side,
            eyes_px=round(eye_distance(side), 4),
            fmr=gain.fmr,
            plain=_rate(gain.base),
            enhanced=_rate(gain.made),
            gain=_rate(gain.gain),
        )
        for gain in gains
    ]


def _rate(interval: Interval) -> Rate:
    rounded = (round(x, 4) for x in (interval.estimate, interval.low, interval.high))
    return Rate(**dict(zip(("value", "low", "high"), rounded, strict=True)))
