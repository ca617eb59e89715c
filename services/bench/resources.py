"""What a process holds, and whether that grows."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from services.bench.process import resident_bytes

_LEFT_OUT = 1 / 3  # of the time: caches fill, threads start
_NORMAL = 1.96  # 95 %
_LEAST = 4  # samples that a slope is fitted to


@dataclass(frozen=True)
class Sample:
    """What a process held at one moment.

    Attributes:
        at: monotonic seconds.
        resident: bytes of memory.
        threads: how many.
        files: open ones, sockets too.
    """

    at: float
    resident: int
    threads: int
    files: int


def sample(pid: int) -> Sample:
    """Looks at a process."""
    process = Path(f"/proc/{pid}")
    return Sample(
        time.monotonic(),
        resident_bytes(pid),
        sum(1 for _ in (process / "task").iterdir()),
        sum(1 for _ in (process / "fd").iterdir()),
    )


def slope_per_minute(samples: Sequence[Sample]) -> tuple[float, float]:
    """How fast memory grew in the last two thirds of the time.

    Args:
        samples: in order.

    Returns:
        Bytes per minute by least squares, and half of its 95 % interval, for which samples that
        resemble the one before count less; not a number where there are too few samples.
    """
    start, end = samples[0].at, samples[-1].at
    late = [one for one in samples if one.at >= start + (end - start) * _LEFT_OUT]
    if len(late) < _LEAST:
        return math.nan, math.nan
    minutes = np.array([one.at / 60 for one in late])
    held = np.array([one.resident for one in late], np.float64)
    minutes -= minutes.mean()
    spread = float(minutes @ minutes)
    slope = float(minutes @ held) / spread
    rest = held - held.mean() - slope * minutes
    power = float(rest @ rest)
    if power == 0.0:
        return slope, 0.0
    alike = min(0.99, max(0.0, float(rest[1:] @ rest[:-1]) / power))
    error = math.sqrt(power / (len(late) - 2) / spread * (1 + alike) / (1 - alike))
    return slope, _NORMAL * error
