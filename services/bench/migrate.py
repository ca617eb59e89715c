"""Migration of a gallery, beside the extraction of the same templates from photographs.

The gallery is made up for it; its vectors are random, which takes as long to map as any others.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import tempfile
import time
from collections.abc import AsyncIterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from models.zoo import Zoo
from services.bench.interruptions import copied, killed_and_resumed
from services.bench.pictures import small_pairs
from services.bench.process import resident_bytes
from services.bench.result import BenchResult
from services.gallery import Enrolment, Gallery, NewTemplate, Space
from services.gallery.embedded.index import VectorIndex
from services.gallery.open import open_gallery
from services.gateway.core import crop_geometry
from services.gateway.faces import FaceChoice
from services.local import local_mapping, local_mien
from services.migration import Migrations, PlanOptions, Record
from services.settings import Settings

_TURN_SECONDS = 4.0
_ENROLLED = 500
_TENANT = "bench"
_WORKERS = 8  # pictures at work at once


def bench_migrate(
    settings: Settings, map_name: str, templates: int, seconds: float, kills: int
) -> BenchResult:
    """Measures both, one after the other, in this process.

    With kills, the same gallery is migrated once more, by processes that are killed at random
    moments and resumed, and both results are compared.

    Args:
        settings: of the engine, the gateway and the map.
        map_name: name or name@version of a map that is known here.
        templates: in the gallery.
        seconds: for the extraction.
        kills: processes that are killed.

    Raises:
        FetchError: the photographs cannot be downloaded.
        ZooError: map or target model are not known, or their weights are not here.
    """
    return asyncio.run(_measure(settings, map_name, templates, seconds, kills))


async def _measure(
    settings: Settings, map_name: str, templates: int, seconds: float, kills: int
) -> BenchResult:
    card = Zoo(settings.home).map(map_name)
    ends = [
        Space(one.name, one.version, one.weights_sha256, one.preprocessing_sha256, one.dimension)
        for one in (card.source, card.target)
    ]
    with tempfile.TemporaryDirectory(prefix="mien-bench-", dir=settings.home) as folder:
        quiet = Path(folder) / "quiet" / "gallery.sqlite3"
        async with _migrations(settings, map_name, quiet) as (gallery, migrations):
            await gallery.create_collection(ends[0])
            await _fill(gallery, ends[0], templates)
            plan = await migrations.plan(PlanOptions(map_name))
        other = copied(quiet, Path(folder) / "disturbed") if kills else quiet
        async with _migrations(settings, map_name, quiet) as (_, migrations):
            done, spent, memory = await _run(migrations, plan.id)
        details: dict[str, Any] = {
            "templates": done.written,
            "seconds": round(spent, 2),
            "planned_seconds": round(plan.seconds, 2),
            "map": plan.map,
            "peak_mb": round(max(memory) / 1e6, 1),
            "memory_growth_mb": round(_growth(memory, done.written, ends[1], settings) / 1e6, 1),
        }
        if kills:
            seen = await killed_and_resumed(settings, quiet, other, plan.id, kills, spent)
            details |= asdict(seen)
    reference, target = await _extraction(settings, card.target.reference, seconds)
    details["extracted_with"] = target
    return BenchResult(done.written / spent, reference, "templates/s", details)


async def _run(migrations: Migrations, name: str) -> tuple[Record, float, list[int]]:
    """Runs a migration; gives its record, seconds, and resident bytes after each batch."""
    memory: list[int] = []

    def tell(_: Record) -> None:
        memory.append(resident_bytes(os.getpid()))

    start = time.perf_counter()
    done = await migrations.run(name, told=tell)
    return done, time.perf_counter() - start, memory


def _growth(memory: list[int], written: int, target: Space, settings: Settings) -> int:
    """Bytes that a run's second half took, beside the search index of what it stored.

    The new collection is kept in memory, to be searched: that much is no leak.
    """
    half = memory[len(memory) // 2 :]
    spawned = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawned) as fresh:
        index = fresh.submit(
            _index_growth, written, target.dimension, settings.gallery.exact_templates
        ).result()
    return half[-1] - half[0] - index


def _index_growth(count: int, dimension: int, exact: int) -> int:
    """Bytes that the second half of so many vectors takes in a search index."""
    index = VectorIndex(dimension, "cosine", exact)
    rng = np.random.default_rng(0)
    before = 0
    for start in range(0, count, _ENROLLED):
        if start <= count // 2:
            before = resident_bytes(os.getpid())
        rows = rng.standard_normal((min(_ENROLLED, count - start), dimension)).astype(np.float32)
        numbers = range(start + 1, start + 1 + len(rows))
        index.add(numbers, numbers, rows)
    return resident_bytes(os.getpid()) - before


@asynccontextmanager
async def _migrations(
    settings: Settings, map_name: str, path: Path
) -> AsyncIterator[tuple[Gallery, Migrations]]:
    """A gallery on this machine's disk, and its migrations by one map."""
    gallery = await open_gallery(settings, f"sqlite:{path}")
    try:
        async with local_mapping(settings, (map_name,)) as mapping:
            yield gallery, Migrations(gallery, mapping, settings)
    finally:
        await gallery.close()


async def _fill(gallery: Gallery, space: Space, count: int) -> None:
    rng = np.random.default_rng(1)
    for start in range(0, count, _ENROLLED):
        rows = rng.standard_normal((min(_ENROLLED, count - start), space.dimension))
        await gallery.enrol(
            _TENANT,
            [
                Enrolment(f"s{start + number}", [NewTemplate(space, row.astype(np.float32))])
                for number, row in enumerate(rows)
            ],
        )


async def _extraction(settings: Settings, target: str, seconds: float) -> tuple[float, str]:
    """Templates per second from JPEG files of 250 x 250: decoded, detected, aligned, embedded.

    Several pictures are at work at once, as in a bulk enrolment.
    """
    pictures = [data for pair in small_pairs(settings.home) for data in pair]
    async with local_mien(settings, (target,)) as mien:
        model = await mien.embedding.model(target)
        geometry = crop_geometry(model)
        count = 0

        async def one(number: int) -> None:
            nonlocal count
            data = pictures[number % len(pictures)]
            face = await mien.gateway.capacity.in_pool(
                lambda: mien.pipeline.prepare(data, FaceChoice(), geometry, "picture")
            )
            if face.crop is not None:
                await mien.embedding.embed([face.crop], model)
                count += 1

        async def worker(first: int, end: float) -> None:
            number = first
            while time.perf_counter() < end:
                await one(number)
                number += _WORKERS

        await asyncio.gather(*(one(number) for number in range(_WORKERS)))  # warms everything up
        count, start = 0, time.perf_counter()
        await asyncio.gather(
            *(worker(number, start + max(seconds, _TURN_SECONDS)) for number in range(_WORKERS))
        )
        return count / (time.perf_counter() - start), target
