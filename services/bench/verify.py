"""One `POST /v1/verify` after another, beside the same work in a plain loop in one process."""

from __future__ import annotations

import http.client
import json
import os
import statistics
import time
from collections.abc import Callable

from services.bench.load import post_multipart
from services.bench.pictures import small_pairs
from services.bench.plain import PlainLoop
from services.bench.process import served
from services.bench.result import BenchResult
from services.settings import Settings

_TURN_SECONDS = 1.0


def bench_verify(settings: Settings, seconds: float) -> BenchResult:
    """Measures both in turns of a second, so that a noisy machine disturbs them alike.

    Mien runs in a process of its own and is called over one kept-open connection, with multipart
    bodies of two JPEG files of 250 x 250 pixels. The plain loop decodes, detects, aligns and embeds
    the same files with the same detector and engine, and does nothing else.

    Args:
        settings: of the engine.
        seconds: for each of the two.

    Raises:
        FetchError: the pictures cannot be downloaded.
        RuntimeError: Mien does not start or does not answer 200.
    """
    pairs = small_pairs(settings.home)
    loop = PlainLoop(settings)
    turns = max(2, round(seconds))
    with served(settings) as (port, *_):
        service = _Client(port, pairs)
        for number in range(len(pairs)):  # warm up
            loop.verify(*pairs[number])
            service.verify(number)
        plain, mien = [], []
        for _ in range(turns):
            plain.append(_rate(lambda number: loop.verify(*pairs[number % len(pairs)])))
            mien.append(_rate(service.verify))
        stages = service.stages()
    return BenchResult(
        value=statistics.median(mien),
        reference=statistics.median(plain),
        unit="requests/s",
        details={
            "concurrency": 1,
            "turns": turns,
            "value_range": [round(min(mien), 2), round(max(mien), 2)],
            "reference_range": [round(min(plain), 2), round(max(plain), 2)],
            "median_stage_ms": stages,
            "engine": loop.engine,
            "cpus": len(os.sched_getaffinity(0)),
        },
    )


class _Client:
    """A caller that costs next to nothing, so that the service is what is measured."""

    def __init__(self, port: int, pairs: list[tuple[bytes, bytes]]) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        whole = [
            post_multipart("/v1/verify", {"probe": probe, "reference": reference})
            for probe, reference in pairs
        ]
        self._requests = [request.partition(b"\r\n\r\n") for request in whole]
        self._stages: list[dict[str, float]] = []

    def verify(self, number: int) -> None:
        head, _, body = self._requests[number % len(self._requests)]
        content_type = head.decode().rpartition("Content-Type: ")[2]
        self._connection.request("POST", "/v1/verify", body, {"Content-Type": content_type})
        response = self._connection.getresponse()
        answer = response.read()
        if response.status != http.client.OK:
            raise RuntimeError(f"Mien answered {response.status}")
        self._stages.append(json.loads(answer)["timing_ms"])

    def stages(self) -> dict[str, float]:
        """Median milliseconds by stage; the stages of two pictures run side by side."""
        return {
            name: round(statistics.median(row.get(name, 0.0) for row in self._stages), 3)
            for name in self._stages[-1]
        }


def _rate(verify: Callable[[int], object]) -> float:
    """Verifications per second over one turn."""
    count = 0
    start = time.perf_counter()
    while (spent := time.perf_counter() - start) < _TURN_SECONDS:
        verify(count)
        count += 1
    return count / spent
