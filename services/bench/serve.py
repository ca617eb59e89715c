"""`/v1/verify` under several callers at once, beside a plain OpenCV service on the same CPUs."""

from __future__ import annotations

import asyncio
import os
import statistics
import sys

from models.zoo import Zoo
from services.bench.load import HttpCaller, Load, closed_loop, post_multipart
from services.bench.pictures import small_pairs
from services.bench.process import free_port, running, served
from services.bench.result import BenchResult
from services.settings import Settings

_TURN_SECONDS = 3.0
_WARM_UP_SECONDS = 1.0
_EMBEDDER = "sface"  # the one network that both sides can run


def bench_serve(settings: Settings, seconds: float, concurrency: int) -> BenchResult:
    """Measures both services in turns, each in a process of its own, with the same callers.

    The reference decodes, detects (YuNet), aligns and embeds (SFace) with OpenCV in a FastAPI
    handler: the same networks and pictures. Both processes stay up all the time; one is idle while
    the other works.

    Args:
        settings: of Mien.
        seconds: for each of the two.
        concurrency: callers at once.

    Raises:
        FetchError: the pictures cannot be downloaded.
        RuntimeError: a service does not start.
    """
    zoo = Zoo(settings.home)
    requests = [
        post_multipart("/v1/verify", {"probe": probe, "reference": reference})
        for probe, reference in small_pairs(settings.home)
    ]
    weights = [str(zoo.weights(zoo.card(name))) for name in ("yunet", _EMBEDDER)]
    plain_port = free_port()
    plain = [sys.executable, "-m", "services.bench.opencv_service", str(plain_port), *weights]
    chosen = {"MIEN_EMBEDDING__MODELS": _EMBEDDER}
    turns = max(2, round(seconds / _TURN_SECONDS))
    with (
        served(settings, environment=chosen) as (port, *_),
        running(plain, {}, plain_port, "/healthz/ready"),
    ):
        ports = (port, plain_port)
        mien, reference = asyncio.run(_turns(ports, requests, concurrency, turns))
    rates = [load.rate for load in mien]
    plain_rates = [load.rate for load in reference]
    whole, plain_whole = _together(mien), _together(reference)
    return BenchResult(
        value=statistics.median(rates),
        reference=statistics.median(plain_rates),
        unit="requests/s",
        details={
            "concurrency": concurrency,
            "turns": turns,
            **whole.summary(),
            **{f"reference_{name}": value for name, value in plain_whole.summary().items()},
            "value_range": [round(min(rates), 1), round(max(rates), 1)],
            "reference_range": [round(min(plain_rates), 1), round(max(plain_rates), 1)],
            "refused": {str(k): len(v) for k, v in whole.refusals.items()},
            "model": _EMBEDDER,
            "precision": settings.engine.precision,
            "cpus": len(os.sched_getaffinity(0)),
        },
    )


async def _turns(
    ports: tuple[int, int], requests: list[bytes], concurrency: int, turns: int
) -> tuple[list[Load], list[Load]]:
    callers = [HttpCaller(port, requests, concurrency) for port in ports]
    for caller in callers:
        await caller.open()
        await closed_loop(caller, concurrency, _WARM_UP_SECONDS)
    loads: tuple[list[Load], list[Load]] = ([], [])
    for _ in range(turns):
        for caller, made in zip(callers, loads, strict=True):
            made.append(await closed_loop(caller, concurrency, _TURN_SECONDS))
    for caller in callers:
        caller.close()
    return loads


def _together(loads: list[Load]) -> Load:
    whole = Load()
    for load in loads:
        whole.add(load)
    return whole
