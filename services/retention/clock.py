"""Whether the clock may be trusted with a deletion.

A clock that jumps ahead makes everything old. So the time that went by on it is compared with that
of a clock that nobody sets, which goes on from the machine's start. Where the machine was started
anew, only the length of the gap can be looked at.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.migration.lease import now as steady_now

_DAY = 86_400.0


def boot_id() -> str:
    """What tells one start of this machine from another; empty where the system does not say."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return ""


@dataclass(frozen=True)
class Clock:
    """The clocks of a machine; tests bring their own.

    Attributes:
        wall: seconds since the epoch.
        steady: seconds since some moment, never set.
        boot: within which ``steady`` may be compared.
    """

    wall: Callable[[], float] = time.time
    steady: Callable[[], float] = steady_now
    boot: Callable[[], str] = boot_id

    def read(self) -> dict[str, Any]:
        """A reading, to be compared with later."""
        return {"wall": self.wall(), "steady": self.steady(), "boot": self.boot()}


def jump(
    before: Mapping[str, Any], after: Mapping[str, Any], seconds: float, gap_days: float
) -> str:
    """Why a later reading is not to be trusted; empty if it is.

    Args:
        before: the reading of the last run that was trusted.
        after: that of now.
        seconds: by which the two clocks may differ.
        gap_days: longest time between two readings of different starts of the machine.
    """
    went = float(after["wall"]) - float(before["wall"])
    if after["boot"] and after["boot"] == before["boot"]:
        differ = went - (float(after["steady"]) - float(before["steady"]))
        if abs(differ) > seconds:
            return f"the clock jumped by {differ:+.0f} s"
    elif went > gap_days * _DAY:
        return f"{went / _DAY:.1f} days have gone by since the last run, by the clock"
    if went < -seconds:
        return f"the clock went back by {-went:.0f} s"
    return ""
