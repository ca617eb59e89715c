"""Migration of a gallery, beside the extraction of the same templates from photographs.

The gallery is made up for it; its vectors are random, which takes as long to map as any others.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np

from models.zoo import Zoo
from services.bench.pictures import small_pairs
from services.bench.process import resident_bytes
from services.bench.result import BenchResult
from services.gallery import Enrolment, Gallery, NewTemplate, Space
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
_MEBIBYTE = 2**20


def bench_migrate(settings: Settings, map_name: str, templates: int, seconds: float) -> BenchResult:
    """Measures both, one after the other, in this process.

    Args:
        settings: of the engine, the gateway and the map.
        map_name: name or name@version of a map that is known here.
        templates: in the gallery.
        seconds: for the extraction.

    Raises:
        FetchError: the photographs cannot be downloaded.
        ZooError: map or target model are not known, or their weights are not here.
    """
    return asyncio.run(_measure(settings, map_name, templates, seconds))


async def _measure(
    settings: Settings, map_name: str, templates: int, seconds: float
) -> BenchResult:
    card = Zoo(settings.home).map(map_name)
    ends = [
        Space(one.name, one.version, one.weights_sha256, one.preprocessing_sha256, one.dimension)
        for one in (card.source, card.target)
    ]
    memory: list[int] = []

    def tell(_: Record) -> None:
        memory.append(resident_bytes(os.getpid()))

    async with _gallery(settings) as gallery, local_mapping(settings, (map_name,)) as mapping:
        await gallery.create_collection(ends[0])
        await _fill(gallery, ends[0], templates)
        migrations = Migrations(gallery, mapping, settings)
        plan = await migrations.plan(PlanOptions(map_name))
        start = time.perf_counter()
        done = await migrations.run(plan.id, told=tell)
        spent = time.perf_counter() - start
    reference, target = await _extraction(settings, card.target.reference, seconds)
    half = memory[len(memory) // 2 :]
    # The new collection's vectors stay in memory, to be searched: that much is no leak.
    held = (half[-1] - half[0]) - done.written // 2 * ends[1].dimension * 4
    return BenchResult(
        value=done.written / spent,
        reference=reference,
        unit="templates/s",
        details={
            "templates": done.written,
            "seconds": round(spent, 2),
            "planned_seconds": round(plan.seconds, 2),
            "map": plan.map,
            "extracted_with": target,
            "peak_mib": round(max(memory) / _MEBIBYTE, 1),
            "second_half_growth_beside_vectors_mib": round(held / _MEBIBYTE, 1),
        },
    )


@asynccontextmanager
async def _gallery(settings: Settings) -> AsyncIterator[Gallery]:
    """An empty gallery on this machine's disk, for a while."""
    with tempfile.TemporaryDirectory(prefix="mien-bench-", dir=settings.home) as folder:
        gallery = await open_gallery(settings, f"sqlite:{Path(folder) / 'gallery.sqlite3'}")
        try:
            yield gallery
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
