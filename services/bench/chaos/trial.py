"""One fault tried on a Mien under load, and what its callers saw of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from services.bench.chaos.callers import Callers
from services.bench.chaos.faults import Fault
from services.bench.chaos.house import House
from services.bench.chaos.journal import GOOD, Call, told
from services.bench.chaos.lookup import lost
from services.bench.process import resident_bytes

_RECOVERY_SECONDS = 60.0
_QUIET_SECONDS = 1.5  # without a refusal: then it has recovered
_LOOK = 0.05
_BUSY = 429
_AT_WORK = 0.1  # calls that were sent so long before a drain were certainly taken


@dataclass(frozen=True)
class Trial:
    """What became of one fault.

    Attributes:
        fault: its name.
        skipped: why it was not tried; empty where it was.
        in_flight: calls at work when it came.
        answered: calls that were answered well, of all that were made while it lasted and until it
            was over.
        refused: how often calls ended otherwise, by status and code.
        dishonest: calls that ended in what this fault does not explain.
        wrong: answers that were not true.
        dropped: calls that were at work when the gateway was asked to end, and got no answer.
        restored_seconds: that it took to put right, such as the start of what was killed.
        recovered_seconds: from when that began until all kinds of calls were answered again; None
            if that did not come.
        acknowledged: enrolments acknowledged meanwhile.
        lost: of those, not found afterwards.
        memory_mb: of the gateway afterwards, resident.
        failure: what could not be done; empty where all could.
    """

    fault: str
    skipped: str = ""
    in_flight: int = 0
    answered: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    dishonest: int = 0
    wrong: int = 0
    dropped: int = 0
    restored_seconds: float = 0.0
    recovered_seconds: float | None = None
    acknowledged: int = 0
    lost: int = 0
    memory_mb: float = 0.0
    failure: str = ""

    @property
    def is_survived(self) -> bool:
        """Whether Mien did all that it promises."""
        harm = self.dishonest or self.wrong or self.dropped or self.lost or self.failure
        return not self.skipped and not harm and self.recovered_seconds is not None


async def tried(house: House, callers: Callers, fault: Fault, seconds: float) -> Trial:
    """Tries a fault while callers call.

    Args:
        house: a running Mien.
        callers: at work.
        fault: to be tried.
        seconds: that it lasts.
    """
    journal = callers.journal
    try:
        if fault.before is not None:
            await fault.before(house)
            await _recovered(callers, time.monotonic())
        in_flight = sum(journal.in_flight.values())
        began = time.monotonic()
        await fault.begin(house)
        await asyncio.sleep(seconds)
        undone = time.monotonic()
        await fault.end(house)
        restored = time.monotonic() - undone
    except RuntimeError as error:
        return Trial(fault.name, failure=str(error))
    recovered = await _recovered(callers, undone)
    calls = journal.between(began)
    fresh = [one for one in journal.acknowledged if one.acknowledged >= began]
    missing = await lost(callers, [one for one in journal.acknowledged if not one.found])
    return Trial(
        fault.name,
        in_flight=in_flight,
        answered=sum(one.is_good for one in calls),
        refused=told(calls),
        dishonest=sum(not _is_honest(one, fault) for one in calls),
        wrong=sum(one.is_wrong for one in calls),
        dropped=_dropped(calls, began) if fault.drained else 0,
        restored_seconds=round(restored, 2),
        recovered_seconds=recovered,
        acknowledged=len(fresh),
        lost=missing,
        memory_mb=round(resident_bytes(house.gateway.pid) / 1e6, 1),
    )


async def _recovered(callers: Callers, since: float) -> float | None:
    """Waits until all kinds of calls are answered well; seconds from a moment until they were.

    A Mien that is busy is not broken: it has recovered when every kind of call was answered well
    after the last one that ended in anything but 429.
    """
    journal = callers.journal
    kinds = {one.kind for one in journal.calls}
    deadline = time.monotonic() + _RECOVERY_SECONDS
    while time.monotonic() < deadline:
        await asyncio.sleep(_LOOK)
        later = [one for one in journal.calls if one.sent >= since]
        bad = [one for one in later if not one.is_good and one.status != _BUSY]
        last = max((one.sent for one in bad), default=since)
        first: dict[str, float] = {}
        for one in later:
            if one.is_good and one.sent >= last:
                first[one.kind] = min(one.sent, first.get(one.kind, one.sent))
        if first.keys() == kinds and time.monotonic() >= last + _QUIET_SECONDS:
            busy = any(one.status == _BUSY for one in later)
            return round(max(first.values()) - since, 2) if bad or busy else 0.0
    return None


def _is_honest(call: Call, fault: Fault) -> bool:
    if call.status in GOOD or call.status in fault.honest:
        return True
    return call.status <= 0 and fault.unanswered


def _dropped(calls: Sequence[Call], began: float) -> int:
    return sum(one.status <= 0 and one.sent < began - _AT_WORK for one in calls)
