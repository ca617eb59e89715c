"""Embeds many picture files, as the gateway would embed each."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from services.errors import MienError
from services.evaluation.alteration import split_name
from services.evaluation.cache import EmbeddingCache, picture_key, pipeline_sha256
from services.evaluation.pairs import PairsError
from services.gateway.core import crop_geometry
from services.gateway.faces import FaceChoice
from services.gateway.pipeline import PreparedFace
from services.local import LocalMien
from services.rpc.mien.v1 import model_pb2
from services.runtime import EngineOptions
from services.settings import Settings
from services.telemetry import Stopwatch, get_logger

Vector = NDArray[np.float32]
Advance = Callable[[int], None]

_BATCH = 32
_BATCHES_AT_WORK = 3  # so that one is embedded while the next is decoded
_log = get_logger(__name__)


@dataclass(frozen=True)
class Extraction:
    """Vectors of picture files.

    Attributes:
        vectors: by path; None where no face was found or the picture could not be used.
        seconds: time that it took.
        embedded: pictures that were really worked on, not found in the cache.
        enhanced: those of them whose face was enhanced.
        metric: "cosine" or "euclidean".
        model: "name@version".
    """

    vectors: dict[str, Vector | None]
    seconds: float
    embedded: int
    enhanced: int
    metric: str
    model: str

    @property
    def failures(self) -> list[str]:
        """Paths without a vector (failures to enrol)."""
        return [path for path, vector in self.vectors.items() if vector is None]


@dataclass(frozen=True)
class ExtractionPlan:
    """What to embed, and how.

    Attributes:
        root: folder of the pictures.
        paths: picture files, relative to it; altered ones by the name that `Alteration` gives.
        model: embedder, as name or name@version.
        choice: which face of a picture.
        cache: folder that keeps vectors between runs, if any.
        enhance: as the gateway would; False compares all faces as they are.
    """

    root: Path
    paths: Sequence[str]
    model: str
    choice: FaceChoice
    cache: Path | None = None
    enhance: bool = True


async def extract(
    mien: LocalMien, settings: Settings, plan: ExtractionPlan, advance: Advance
) -> Extraction:
    """Embeds the pictures of a plan.

    Args:
        mien: loaded pipeline and embedding service.
        settings: of the run; the detector's are part of the cache's key.
        plan: what to embed.
        advance: told how many pictures more are done.

    Raises:
        PairsError: a picture file is missing.
        MienError: the model is not served.
    """
    info = await mien.embedding.model(plan.model)
    recipe: dict[str, object] = {
        "identity": info.identity.SerializeToString(deterministic=True).hex(),
        "engine": f"{info.engine} {info.precision}",
        "choice": [plan.choice.selection, plan.choice.index],
        "detection": settings.detection.model_dump(),
        "pipeline": pipeline_sha256(),
    }
    if plan.enhance:
        recipe["enhancers"] = await mien.enhancement.served()
    cache = EmbeddingCache(plan.cache, recipe, info.dimension)
    work = _Work(mien, info, plan, cache)
    started = time.perf_counter()
    places = asyncio.Semaphore(_BATCHES_AT_WORK)

    async def run(batch: Sequence[str]) -> dict[str, Vector | None]:
        async with places:
            found = await work.embed(batch)
            advance(len(batch))
            return found

    batches = [plan.paths[i : i + _BATCH] for i in range(0, len(plan.paths), _BATCH)]
    vectors: dict[str, Vector | None] = {}
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(run(batch)) for batch in batches]
    except* (PairsError, MienError) as errors:
        raise errors.exceptions[0] from None
    finally:
        work.close()
        cache.save()
    for task in tasks:
        vectors |= task.result()
    metric = "euclidean" if info.metric == model_pb2.METRIC_EUCLIDEAN else "cosine"
    name = f"{info.identity.name}@{info.identity.version}"
    seconds = time.perf_counter() - started
    return Extraction(vectors, seconds, work.embedded, work.enhanced, metric, name)


class _Work:
    """Prepares pictures on a thread each, and embeds them in batches."""

    def __init__(
        self,
        mien: LocalMien,
        info: model_pb2.ModelInfo,
        plan: ExtractionPlan,
        cache: EmbeddingCache,
    ) -> None:
        self._mien = mien
        self._info = info
        self._plan = plan
        self._cache = cache
        self._geometry = crop_geometry(info)
        self._pool = ThreadPoolExecutor(EngineOptions().resolved_threads())
        self.embedded = self.enhanced = 0

    async def embed(self, paths: Sequence[str]) -> dict[str, Vector | None]:
        loop = asyncio.get_running_loop()
        prepared = await asyncio.gather(
            *(loop.run_in_executor(self._pool, self._prepare, path) for path in paths)
        )
        fresh = [(key, face) for key, face in prepared if face is not None]
        faces, done = await self._mien.enhancement.apply(
            [face for _, face in fresh],
            self._info,
            self._geometry,
            Stopwatch(),
            allowed=self._plan.enhance,
            bulk=True,
        )
        fresh = [(key, face) for (key, _), face in zip(fresh, faces, strict=True)]
        self.enhanced += sum(1 for one in done if one is not None and one.picture is not None)
        there = [(key, face.crops) for key, face in fresh if face.crop is not None]
        made = await self._mien.embedding.embed_faces(
            [crops for _, crops in there], self._info, bulk=True
        )
        for (key, _), vector in zip(there, made.vectors, strict=True):
            self._cache.put(key, vector)
        for key, face in fresh:
            if face.crop is None:
                self._cache.put(key, None)
        self.embedded += len(fresh)
        return {path: self._cache[key] for path, (key, _) in zip(paths, prepared, strict=True)}

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)

    def _prepare(self, path: str) -> tuple[str, PreparedFace | None]:
        """A picture's key, and its face unless the cache has its vector."""
        named, alteration = split_name(path)
        file = self._plan.root / named
        try:
            data = file.read_bytes()
        except OSError as error:
            raise PairsError(f"{file} cannot be read.") from error
        if alteration:
            data = alteration.apply(data)
        key = picture_key(data)
        if key in self._cache:
            return key, None
        try:
            choice, geometry = self._plan.choice, self._geometry
            return key, self._mien.pipeline.prepare(data, choice, geometry, "picture")
        except MienError as error:
            _log.warning("picture refused", code=error.kind.code)
            return key, PreparedFace.missing(self._plan.choice)
