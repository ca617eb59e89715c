"""How somebody moves through a scene: in at a side, a pause, out at a side."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np

_OUTSIDE = 1.2  # head heights beyond the edge at which a walk begins and ends
_BOB = 0.03  # head heights up and down
_STEPS_HZ = 1.8


@dataclass(frozen=True)
class Place:
    """Where a face is.

    Attributes:
        x: of its centre, pixels.
        y: of its centre, pixels.
        height: of the face, pixels.
    """

    x: float
    y: float
    height: float


class Walk:
    """A smooth way with a change of size and a pause.

    Args:
        rng: makes the choices.
        width: of the scene, pixels.
        height: of the scene, pixels.
        head: least and greatest height of the face, pixels.
        enters: seconds into the scene.
        speeds: least and greatest mean speed in head heights per second. People who stroll past a
            camera do two or so.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        width: int,
        height: int,
        head: tuple[float, float],
        enters: float,
        speeds: tuple[float, float],
    ) -> None:
        sizes = np.exp(rng.uniform(math.log(head[0]), math.log(head[1]), 3))
        # A walk in which the head grew fourfold would be a run.
        sizes = np.clip(sizes, sizes[1] / 1.8, sizes[1] * 1.8).clip(*head)
        sides = rng.random(2) < 0.5
        turn = rng.uniform(0.25, 0.75) * width
        lanes = rng.uniform(0.25, 0.65, 3) * height
        ends = [
            -_OUTSIDE * size if left else width + _OUTSIDE * size
            for left, size in zip(sides, sizes[[0, 2]], strict=True)
        ]
        points = [
            Place(float(x), float(y), float(size))
            for x, y, size in zip((ends[0], turn, ends[1]), lanes, sizes, strict=True)
        ]
        pause = rng.uniform(0.8, 2.0)
        speed = rng.uniform(*speeds)
        first, second = (_seconds(a, b, speed) for a, b in itertools.pairwise(points))
        self._points = points
        self._times = np.cumsum([enters, first, pause, second]).tolist()
        self._phase = rng.uniform(0, 2 * math.pi)

    def at(self, seconds: float) -> Place | None:
        """The place at a time; None before and after the walk."""
        enters, turns, goes_on, leaves = self._times
        if not enters <= seconds < leaves:
            return None
        start, turn, end = self._points
        if seconds < turns:
            place = _between(start, turn, (seconds - enters) / (turns - enters))
        elif seconds < goes_on:
            place = turn
        else:
            place = _between(turn, end, (seconds - goes_on) / (leaves - goes_on))
        bob = _BOB * place.height * math.sin(2 * math.pi * _STEPS_HZ * seconds + self._phase)
        return Place(place.x, place.y + bob, place.height)


def _seconds(a: Place, b: Place, speed: float) -> float:
    way = math.hypot(b.x - a.x, b.y - a.y)
    return max(way / (speed * (a.height + b.height) / 2), 0.5)


def _between(a: Place, b: Place, share: float) -> Place:
    eased = share * share * (3 - 2 * share)  # starts and ends at rest
    size = a.height * (b.height / a.height) ** eased
    return Place(a.x + (b.x - a.x) * eased, a.y + (b.y - a.y) * eased, size)
