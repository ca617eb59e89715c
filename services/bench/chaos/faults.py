"""The faults: what is broken, how it is put right, and what callers may be told meanwhile."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from services.bench.chaos.house import House, faketime_library, has_milvus

_BUSY, _AWAY, _LATE = 429, 503, 504
_JUMPS = ("+86400", "-86400")  # seconds: a day ahead, then a day back

_NOTICED_SECONDS = 1.5  # by then the process has seen its new clock

Step = Callable[[House], Awaitable[None]]
Store = Literal["embedded", "milvus"]


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes:
        name: for tables and for `--faults`.
        begin: breaks it.
        end: puts it right, and returns when that is done.
        honest: statuses other than success that callers may get.
        unanswered: calls may end without an answer, because the gateway itself is gone.
        drained: calls that were at work must be answered nevertheless.
        store: the gallery that it is about.
        before: what it needs beforehand.
        missing: why it cannot be tried on this machine; empty where it can.
    """

    name: str
    begin: Step
    end: Step
    honest: frozenset[int]
    unanswered: bool = False
    drained: bool = False
    store: Store = "embedded"
    before: Step | None = None
    missing: Callable[[], str] = lambda: ""


def _killed(name: str) -> tuple[Step, Step]:
    async def begin(house: House) -> None:
        await asyncio.to_thread(house.programs[name].kill)

    async def end(house: House) -> None:
        await asyncio.to_thread(house.programs[name].start)

    return begin, end


def _stopped(name: str) -> tuple[Step, Step]:
    async def begin(house: House) -> None:
        house.programs[name].freeze()

    async def end(house: House) -> None:
        house.programs[name].thaw()

    return begin, end


async def _cut(house: House) -> None:
    house.proxy.cut()


async def _mend(house: House) -> None:
    house.proxy.mend()


async def _fill(house: House) -> None:
    await asyncio.to_thread(house.disk.fill, house.gateway.pid)


async def _free(house: House) -> None:
    await asyncio.to_thread(house.disk.free)


async def _wind_up(house: House) -> None:
    """Starts the gateway anew with a clock that can be set; it shows the true time as yet."""
    _set(house, "+0")
    house.gateway.environment |= {
        "LD_PRELOAD": str(faketime_library()),
        "FAKETIME_TIMESTAMP_FILE": str(house.clock),
        "FAKETIME_CACHE_DURATION": "1",  # seconds after which it looks at that file again
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",  # as when somebody sets a machine's clock
    }
    await asyncio.to_thread(house.gateway.terminate)
    await asyncio.to_thread(house.gateway.start)


async def _jump(house: House) -> None:
    _set(house, _JUMPS[0])
    await asyncio.sleep(_NOTICED_SECONDS)


async def _jump_back(house: House) -> None:
    _set(house, _JUMPS[1])
    await asyncio.sleep(_NOTICED_SECONDS)
    _set(house, "+0")
    await asyncio.sleep(_NOTICED_SECONDS)


def _set(house: House, offset: str) -> None:
    fresh = house.clock.with_suffix(".new")
    fresh.write_text(offset, encoding="ascii")
    fresh.replace(house.clock)


async def _terminate(house: House) -> None:
    code = await asyncio.to_thread(house.gateway.terminate)
    if code:
        raise RuntimeError(f"the gateway ended with {code}")


async def _start_gateway(house: House) -> None:
    await asyncio.to_thread(house.gateway.start)


def _no_redis() -> str:
    return "" if shutil.which("redis-server") else "redis-server is not installed"


def _no_faketime() -> str:
    return "" if faketime_library() else "libfaketime is not installed (Debian: faketime)"


def _no_milvus() -> str:
    return "" if has_milvus() else "milvus-lite and pymilvus are not installed"


_QUIET = frozenset({_BUSY})
_WITHOUT = frozenset({_BUSY, _AWAY})
_HANGING = frozenset({_BUSY, _AWAY, _LATE})

FAULTS = (
    Fault("embedding-killed", *_killed("embedding"), _WITHOUT),
    Fault("enhancement-killed", *_killed("enhancement"), _QUIET),
    Fault("mapping-killed", *_killed("mapping"), _QUIET),
    Fault("gateway-killed", *_killed("gateway"), _WITHOUT, unanswered=True),
    Fault("redis-killed", *_killed("redis"), _QUIET, missing=_no_redis),
    Fault("embedding-stopped", *_stopped("embedding"), _HANGING),
    Fault("enhancement-stopped", *_stopped("enhancement"), _QUIET),
    Fault("mapping-stopped", *_stopped("mapping"), _QUIET),
    Fault("redis-stopped", *_stopped("redis"), _QUIET, missing=_no_redis),
    Fault("gateway-stopped", *_stopped("gateway"), _HANGING, unanswered=True),
    Fault("half-open", _cut, _mend, _HANGING),
    Fault("disk-full", _fill, _free, _WITHOUT),
    Fault("gateway-drained", _terminate, _start_gateway, _WITHOUT, unanswered=True, drained=True),
    Fault("clock-jump", _jump, _jump_back, _QUIET, before=_wind_up, missing=_no_faketime),
    Fault("milvus-killed", *_killed("milvus"), _HANGING, store="milvus", missing=_no_milvus),
    Fault("milvus-stopped", *_stopped("milvus"), _HANGING, store="milvus", missing=_no_milvus),
)
"""In this order; those of Milvus come last, because the gateway moves there."""
