"""`/v1/verify` offered twice what it can do: what is accepted stays quick, the rest is refused."""

from __future__ import annotations

import asyncio
import time

from services.bench.load import HttpCaller, Load, closed_loop, post_multipart
from services.bench.pictures import small_pairs
from services.bench.process import resident_bytes, served
from services.bench.result import BenchResult
from services.settings import Settings

_CALLERS = 4  # enough to keep all CPUs busy without a queue to speak of
_CALIBRATION_SECONDS = 6.0
_FACTOR = 2.0
_CONNECTIONS = 256
_REFUSED = 429
_SETTLING_SECONDS = 2.0  # in which a gateway finds out that this is no bunch


def bench_overload(settings: Settings, seconds: float) -> BenchResult:
    """Offers requests at twice the measured capacity, whether earlier ones are answered or not.

    ``value`` is the 99th percentile of the accepted requests under this load, ``reference`` that of
    one caller alone, both in milliseconds; refusals are told apart.

    Args:
        settings: of Mien.
        seconds: of overload.

    Raises:
        FetchError: the pictures cannot be downloaded.
        RuntimeError: Mien does not start.
    """
    requests = [
        post_multipart("/v1/verify", {"probe": probe, "reference": reference})
        for probe, reference in small_pairs(settings.home)
    ]
    with served(settings) as (port, _, pid):
        return asyncio.run(_measure(port, pid, requests, seconds))


async def _measure(port: int, pid: int, requests: list[bytes], seconds: float) -> BenchResult:
    caller = HttpCaller(port, requests, _CONNECTIONS)
    await caller.open()
    await closed_loop(caller, 1, 1.0)
    alone = await closed_loop(caller, 1, _CALIBRATION_SECONDS)
    capacity = (await closed_loop(caller, _CALLERS, _CALIBRATION_SECONDS)).rate
    before = resident_bytes(pid)
    load, settled = await _open_loop(caller, capacity * _FACTOR, seconds)
    after = resident_bytes(pid)
    recovered = await closed_loop(caller, 1, 2.0)
    caller.close()
    refused = Load(latencies=load.refusals.get(_REFUSED, []))
    return BenchResult(
        value=load.percentile_ms(99),
        reference=alone.percentile_ms(99),
        unit="ms (p99)",
        details={
            "seconds": seconds,
            "capacity": round(capacity, 1),
            "offered": round(capacity * _FACTOR, 1),
            "accepted_per_second": round(load.rate, 1),
            **load.summary(),
            "p99_ms_after_two_seconds": round(settled.percentile_ms(99), 2),
            "refused": len(refused.latencies),
            "refused_p50_ms": round(refused.percentile_ms(50), 2),
            "refused_p99_ms": round(refused.percentile_ms(99), 2),
            "other_statuses": {
                str(status): len(times)
                for status, times in load.refusals.items()
                if status != _REFUSED
            },
            "memory_before_mb": round(before / 1e6, 1),
            "memory_after_mb": round(after / 1e6, 1),
            "p99_ms_afterwards": round(recovered.percentile_ms(99), 2),
        },
    )


async def _open_loop(caller: HttpCaller, rate: float, seconds: float) -> tuple[Load, Load]:
    """Makes calls at a fixed rate; also what was accepted of those after the first seconds."""
    load, settled = Load(), Load()
    started = time.perf_counter()

    async def one(number: int) -> None:
        began = time.perf_counter()
        status = await caller(number)
        spent = time.perf_counter() - began
        if status == 200:
            load.latencies.append(spent)
            if began - started > _SETTLING_SECONDS:
                settled.latencies.append(spent)
        else:
            load.refusals.setdefault(status, []).append(spent)

    async with asyncio.TaskGroup() as group:
        number = 0
        while (now := time.perf_counter() - started) < seconds:
            while number < now * rate:
                group.create_task(one(number))
                number += 1
            await asyncio.sleep(0.001)
    load.seconds = time.perf_counter() - started
    return load, settled
