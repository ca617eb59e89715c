"""A Mien under a steady load below its capacity, for long: whether it stays quick and small."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import math
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from models.zoo import Zoo
from services.bench.load import HttpCaller, Load, closed_loop, post_multipart
from services.bench.pictures import small_pairs
from services.bench.process import served
from services.bench.resources import Sample, sample, slope_per_minute
from services.bench.result import BenchResult
from services.gallery import DEFAULT_TENANT, Enrolment, NewTemplate
from services.gallery.open import open_gallery
from services.gallery.spaces import space_of_card
from services.settings import Settings

_CALLERS = 4  # enough to keep the CPUs busy while capacity is measured
_WARM_UP_SECONDS = 3.0
_CONNECTIONS = 128
_VERIFY, _IDENTIFY = 0.6, 0.25  # shares of calls; the rest enrols somebody and deletes them again
_TEMPLATES = 10_000
_AT_ONCE = 500
_EVERY_SECONDS = 2.0
_CREATED, _OK, _REFUSED = 201, 200, 429
_BROKEN = -1  # in place of a status: the connection was lost


def bench_soak(
    settings: Settings, seconds: float, share: float, calibration: float = 20.0
) -> BenchResult:
    """Offers a share of the measured capacity, at random moments.

    ``value`` is how many calls were answered well in a second, ``reference`` how many were made.

    Args:
        settings: of Mien.
        seconds: that the load lasts.
        share: of the capacity, which callers who wait for each answer have found.
        calibration: seconds for which they look.

    Raises:
        FetchError: the pictures cannot be downloaded.
        RuntimeError: Mien does not start.
    """
    with tempfile.TemporaryDirectory(prefix="mien-soak-") as folder:
        uri = f"sqlite:{Path(folder) / 'gallery.sqlite3'}"
        asyncio.run(_fill(settings, uri))
        own = {"MIEN_GALLERY__URI": uri, "MIEN_ACCESS__REQUIRED": "never"}
        with served(settings, environment=own) as (port, _, pid):
            return asyncio.run(_Soak(settings, port, pid).run(seconds, share, calibration))


class _Soak:
    def __init__(self, settings: Settings, port: int, pid: int) -> None:
        pairs = small_pairs(settings.home)
        self._verify = [
            post_multipart("/v1/verify", {"probe": a, "reference": b}) for a, b in pairs
        ]
        self._identify = [post_multipart("/v1/identify", {"picture": a}) for a, _ in pairs]
        picture = base64.b64encode(pairs[0][0]).decode()
        self._enrolment = json.dumps({"pictures": [picture], "allow_duplicate": True}).encode()
        self._pid = pid
        self._caller = HttpCaller(port, [], _CONNECTIONS)
        self._rng = np.random.default_rng(11)
        self._numbers = itertools.count()

    async def run(self, seconds: float, share: float, calibration: float) -> BenchResult:
        await self._caller.open()
        await closed_loop(self._call, _CALLERS, _WARM_UP_SECONDS)
        capacity = (await closed_loop(self._call, _CALLERS, calibration)).rate
        samples: list[Sample] = []
        watching = asyncio.create_task(self._watch(samples))
        load, offered, refused = await self._open_loop(capacity * share, seconds)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        samples.append(sample(self._pid))
        self._caller.close()
        slope, margin = slope_per_minute(samples)
        first, last = samples[0], samples[-1]
        return BenchResult(
            value=load.rate,
            reference=offered / load.seconds,
            unit="requests/s",
            details={
                "seconds": round(load.seconds, 1),
                "capacity": round(capacity, 1),
                "share": share,
                "calls": offered,
                **load.summary(),
                "refused": len(refused),
                "refused_each_minute": np.bincount(
                    [int(at // 60) for at in refused], minlength=math.ceil(seconds / 60)
                ).tolist(),
                "errors": {
                    str(status): len(times)
                    for status, times in load.refusals.items()
                    if status != _REFUSED
                },
                "memory_mb": _each_minute(samples, lambda one: round(one.resident / 1e6, 1)),
                "memory_slope_mb_per_minute": round(slope / 1e6, 3),
                "memory_slope_interval": [
                    round((slope - margin) / 1e6, 3),
                    round((slope + margin) / 1e6, 3),
                ],
                "threads": [first.threads, last.threads],
                "open_files": [first.files, last.files],
                "cpus": len(os.sched_getaffinity(0)),
            },
        )

    async def _call(self, number: int) -> int:
        """One call of a kind by chance; an enrolment is followed by the deletion."""
        chance = self._rng.random()
        try:
            if chance < _VERIFY:
                return await self._caller.send(self._verify[number % len(self._verify)])
            if chance < _VERIFY + _IDENTIFY:
                return await self._caller.send(self._identify[number % len(self._identify)])
            subject = f"/v1/subjects/soak-{next(self._numbers)}"
            status = await self._caller.send(
                _request("POST", f"{subject}/templates", self._enrolment)
            )
            if status != _CREATED:
                return status
            return await self._caller.send(_request("DELETE", subject))
        except ConnectionError:
            return _BROKEN

    async def _open_loop(self, rate: float, seconds: float) -> tuple[Load, int, list[float]]:
        """Calls at the moments of a Poisson process; also how many, and when some were refused."""
        load, offered = Load(), 0
        refused: list[float] = []
        started = time.perf_counter()

        async def one(number: int) -> None:
            began = time.perf_counter()
            status = await self._call(number)
            spent = time.perf_counter() - began
            if status == _OK:
                load.latencies.append(spent)
            else:
                load.refusals.setdefault(status, []).append(spent)
                if status == _REFUSED:
                    refused.append(began - started)

        async with asyncio.TaskGroup() as group:
            due = self._rng.exponential(1.0 / rate)
            while due < seconds:
                await asyncio.sleep(max(0.0, due - (time.perf_counter() - started)))
                group.create_task(one(offered))
                offered += 1
                due += self._rng.exponential(1.0 / rate)
        load.seconds = time.perf_counter() - started
        return load, offered, refused

    async def _watch(self, samples: list[Sample]) -> None:
        while True:
            samples.append(sample(self._pid))
            await asyncio.sleep(_EVERY_SECONDS)


async def _fill(settings: Settings, uri: str) -> None:
    """Makes a gallery of random vectors, so that a search has something to look through."""
    zoo = Zoo(settings.home)
    space = space_of_card(zoo.embedder(settings.embedding.models[0]))
    rng = np.random.default_rng(5)
    gallery = await open_gallery(settings, uri)
    try:
        await gallery.create_collection(space)
        for start in range(0, _TEMPLATES, _AT_ONCE):
            rows = rng.standard_normal((_AT_ONCE, space.dimension)).astype(np.float32)
            rows /= np.linalg.norm(rows, axis=1, keepdims=True)
            people = [
                Enrolment(f"old-{start + number}", [NewTemplate(space, row)])
                for number, row in enumerate(rows)
            ]
            await gallery.enrol(DEFAULT_TENANT, people)
    finally:
        await gallery.close()


def _request(method: str, path: str, body: bytes = b"") -> bytes:
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n"
        "Content-Type: application/json\r\n\r\n"
    )
    return head.encode() + body


def _each_minute(samples: list[Sample], told: Callable[[Sample], float]) -> list[float]:
    """One sample of each minute, and the last."""
    start = samples[0].at
    first: dict[int, float] = {}
    for one in samples:
        first.setdefault(int((one.at - start) // 60), told(one))
    return [*first.values(), told(samples[-1])]
