"""Identification against a large embedded gallery, beside a bare faiss scan of the same vectors."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import faiss
import numpy as np
from numpy.typing import NDArray

from services.bench.process import resident_bytes
from services.bench.result import BenchResult
from services.gallery import Enrolment, NewTemplate, Space
from services.gallery.embedded import EmbeddedGallery
from services.gallery.values import Vector
from services.settings import GallerySettings, Settings

TENANT = "bench"
_GROUPS = 200
_BATCH = 1000
_TOP = 10
_TOGETHER = 32
_TURN = 10  # probes of each of the two before the other has its turn


@dataclass(frozen=True)
class Started:
    """What a fresh process needs until it answers: seconds, those of CPUs, and bytes of memory."""

    seconds: float
    cpu: float
    resident: int


def bench_identify(settings: Settings, templates: int, dimension: int, queries: int) -> BenchResult:
    """Fills a gallery in a temporary folder, opens it in a fresh process, and asks it.

    The vectors are of unit length and clustered, as those of faces are: people of one group are
    more alike than those of two, and the probes are new views of people in the gallery. Every
    subject has one template. Mien and the scan are asked in turns, one probe at a time.

    Args:
        settings: of the gallery.
        templates: in the gallery.
        dimension: of the vectors.
        queries: probes asked of each of the two.
    """
    space = Space("bench", "1", "0" * 64, "0" * 64, dimension)
    with tempfile.TemporaryDirectory(prefix="mien-bench-") as folder:
        path = Path(folder) / "gallery" / "gallery.sqlite3"
        vectors, probes = made(templates, dimension, queries, Path(folder) / "vectors")
        filling = asyncio.run(_fill(path, settings.gallery, space, vectors))
        spawned = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=spawned) as fresh:
            started = fresh.submit(_start, path, settings.gallery).result()
        asked = asyncio.run(_ask(path, settings.gallery, space, vectors, probes))
        size = sum(file.stat().st_size for file in path.parent.iterdir())
    return BenchResult(
        value=statistics.median(asked.mien),
        reference=statistics.median(asked.scan),
        unit="ms",
        details={
            "p50_ms": round(statistics.median(asked.mien), 3),
            "p99_ms": round(float(np.percentile(asked.mien, 99)), 3),
            "reference_p99_ms": round(float(np.percentile(asked.scan, 99)), 3),
            "batched_ms": round(asked.batched, 3),
            "recall": round(asked.recall, 5),
            "recall_at": _TOP,
            "templates": templates,
            "dimension": dimension,
            "queries": queries,
            "search": "exact" if templates <= settings.gallery.exact_templates else "8-bit codes",
            "startup_seconds": round(started.seconds, 2),
            "startup_cpu_seconds": round(started.cpu, 2),
            "resident_mb": round(started.resident / 1e6, 1),
            "disk_mb": round(size / 1e6, 1),
            "enrolments_per_second": round(templates / filling, 1),
            "cpus": len(os.sched_getaffinity(0)),
        },
    )


def made(templates: int, dimension: int, queries: int, file: Path) -> tuple[Vector, Vector]:
    """Clustered unit vectors and probes that are near some of them: N and Q x dimension.

    The first lie in a file, so that a million of them leave the memory to the gallery.
    """
    rng = np.random.default_rng(0)
    groups = _unit(rng.standard_normal((_GROUPS, dimension), np.float32))
    vectors = np.memmap(file, np.float32, "w+", shape=(templates, dimension))
    for start in range(0, templates, _BATCH):
        end = min(start + _BATCH, templates)
        own = _unit(rng.standard_normal((end - start, dimension), np.float32))
        vectors[start:end] = _unit(own + 0.5 * groups[rng.integers(_GROUPS, size=end - start)])
    chosen = vectors[rng.integers(templates, size=queries)]
    change = _unit(rng.standard_normal((queries, dimension), np.float32))
    return vectors, _unit(chosen + 0.9 * change)


@dataclass
class _Asked:
    mien: list[float]
    scan: list[float]
    recall: float
    batched: float


async def _fill(path: Path, settings: GallerySettings, space: Space, vectors: Vector) -> float:
    gallery = await EmbeddedGallery.open(path, settings)
    began = time.perf_counter()
    try:
        await gallery.create_collection(space)
        for start in range(0, len(vectors), _BATCH):
            some = [
                Enrolment(f"s{start + number}", [NewTemplate(space, vector, f"t{start + number}")])
                for number, vector in enumerate(vectors[start : start + _BATCH])
            ]
            await gallery.enrol(TENANT, some)
    finally:
        await gallery.close()
    return time.perf_counter() - began


def _start(path: Path, settings: GallerySettings) -> Started:
    async def work() -> Started:
        began, worked = time.perf_counter(), time.process_time()
        gallery = await EmbeddedGallery.open(path, settings)
        seconds, cpu = time.perf_counter() - began, time.process_time() - worked
        resident = resident_bytes(os.getpid())
        await gallery.close()
        return Started(seconds, cpu, resident)

    return asyncio.run(work())


async def _ask(
    path: Path, settings: GallerySettings, space: Space, vectors: Vector, probes: Vector
) -> _Asked:
    gallery = await EmbeddedGallery.open(path, settings)
    asked = _Asked([], [], 0.0, 0.0)
    try:
        await gallery.search(TENANT, space, probes[:1], _TOP)  # warm up
        _scan(vectors, probes[:1])
        right = 0
        for start in range(0, len(probes), _TURN):
            some = probes[start : start + _TURN]
            exact = []
            for probe in some:
                began = time.perf_counter()
                places = _scan(vectors, probe[None])
                asked.scan.append((time.perf_counter() - began) * 1e3)
                exact.append({f"s{place}" for place in places[0]})
            for probe, best in zip(some, exact, strict=True):
                began = time.perf_counter()
                (found,) = await gallery.search(TENANT, space, probe[None], _TOP)
                asked.mien.append((time.perf_counter() - began) * 1e3)
                right += len(best & {one.subject_id for one in found})
        asked.recall = right / (_TOP * len(probes))
        together = probes[:_TOGETHER]
        began = time.perf_counter()
        await gallery.search(TENANT, space, together, _TOP)
        asked.batched = (time.perf_counter() - began) * 1e3 / len(together)
    finally:
        await gallery.close()
    return asked


def _scan(vectors: Vector, probes: Vector) -> NDArray[np.int64]:
    """Places of the best by bare faiss, N x 10."""
    _, places = faiss.knn(probes, vectors, _TOP, metric=faiss.METRIC_INNER_PRODUCT)
    found: NDArray[np.int64] = places
    return found


def _unit(rows: Vector) -> Vector:
    scaled: Vector = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return scaled
