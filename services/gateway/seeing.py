"""From picture files to embedded faces: decoded, detected, measured, aligned, enhanced, embedded.

A picture that was seen before, by the same tenant and with the same models and settings, is taken
from the cache where the settings keep one. The answer is the same.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from services.gateway.alignment import CropGeometry
from services.gateway.capacity import Capacity
from services.gateway.embedding_client import EmbeddingClient
from services.gateway.enhancement import FaceEnhancement, Status
from services.gateway.faces import FaceChoice
from services.gateway.pipeline import PicturePipeline
from services.gateway.seen import FORMAT, Seen, read, written
from services.rpc.mien.v1 import model_pb2
from services.settings import Settings
from services.shared import FaceCache
from services.telemetry import Stopwatch
from services.telemetry.metrics import ENHANCEMENTS, version


@dataclass(frozen=True)
class Request:
    """For whom pictures are looked at, and how.

    Attributes:
        tenant: whose request it is; no tenant gains by what another has sent.
        model: that embeds.
        geometry: the crop that it takes.
        enhance: enhance faces that gain by it.
        crops: the crops are needed too, so nothing is taken from the cache.
    """

    tenant: str
    model: model_pb2.ModelInfo
    geometry: CropGeometry
    enhance: bool = True
    crops: bool = False


class Seeing:
    """Looks at pictures.

    Args:
        pipeline: finds, measures and aligns faces.
        embedding: turns crops into vectors.
        enhancement: mends poor faces.
        capacity: shared with all other requests.
        settings: limits.
        cache: of what was seen before.
    """

    def __init__(
        self,
        pipeline: PicturePipeline,
        embedding: EmbeddingClient,
        enhancement: FaceEnhancement,
        capacity: Capacity,
        settings: Settings,
        cache: FaceCache,
    ) -> None:
        self._pipeline, self._embedding, self._enhancement = pipeline, embedding, enhancement
        self._capacity, self._settings, self._cache = capacity, settings, cache

    async def chosen(
        self,
        request: Request,
        pictures: Sequence[tuple[bytes, FaceChoice]],
        fields: Sequence[str],
        watch: Stopwatch,
    ) -> list[Seen]:
        """Looks at the face that is meant in each picture.

        Args:
            request: for whom, and how.
            pictures: picture files, each with the choice of a face.
            fields: the request's fields that they came in, for errors.
            watch: is told the time of all stages.

        Returns:
            One for each picture, not embedded yet unless the cache had it.

        Raises:
            MienError: a picture cannot be used, has no face of the index that was named, or the
                enhancement service is busy.
        """

        def prepared(data: bytes, choice: FaceChoice, field: str) -> Seen:
            face = self._pipeline.prepare(data, choice, request.geometry, field)
            return Seen([face], [], face_count=face.face_count, stopwatch=face.stopwatch)

        jobs = [
            partial(prepared, data, choice, field)
            for (data, choice), field in zip(pictures, fields, strict=True)
        ]
        asked = [(f"{choice.selection} {choice.index}", data) for data, choice in pictures]
        return await self._look(request, asked, jobs, watch)

    async def all_faces(
        self, request: Request, pictures: Sequence[bytes], fields: Sequence[str], watch: Stopwatch
    ) -> list[Seen]:
        """Looks at every face of each picture, the largest first and up to the limit.

        Raises:
            MienError: a picture cannot be used, or the enhancement service is busy.
        """
        most = self._settings.identification.max_faces

        def prepared(data: bytes, field: str) -> Seen:
            made = self._pipeline.prepare_all(data, request.geometry, field, most)
            size = (made.width, made.height)
            return Seen(made.faces, [], None, size, made.face_count, made.stopwatch)

        jobs = [
            partial(prepared, data, field) for data, field in zip(pictures, fields, strict=True)
        ]
        return await self._look(request, [(f"all {most}", one) for one in pictures], jobs, watch)

    async def embed(self, request: Request, seen: Sequence[Seen], watch: Stopwatch) -> None:
        """Embeds the faces that are not embedded yet, and keeps what was new.

        Args:
            request: as they were looked at.
            seen: is given its vectors.
            watch: is told the time of queue and network.

        Raises:
            MienError: the embedding service refused, failed, or did not answer in time.
        """
        new = [one for one in seen if one.vectors is None]
        faces = [face.crops for one in new for face in one.faces if face.crop is not None]
        made = await self._embedding.embed_faces(faces, request.model)
        if faces:
            watch.add("queue", made.queue_seconds)
            watch.add("inference", made.inference_seconds)
        start = 0
        for one in new:
            end = start + sum(face.crop is not None for face in one.faces)
            one.vectors, start = made.vectors[start:end], end
        entries = {one.about: written(one) for one in new if one.about and _is_final(one)}
        if entries:
            with watch.stage("cache"):
                await self._cache.keep(request.tenant, entries, new[0].epoch)

    async def _look(
        self,
        request: Request,
        asked: Sequence[tuple[str, bytes]],
        jobs: Sequence[Callable[[], Seen]],
        watch: Stopwatch,
    ) -> list[Seen]:
        """Takes from the cache what it has, and works on the other pictures side by side."""
        seen, about, epoch = await self._cached(request, asked, watch)
        places = [place for place, one in enumerate(seen) if one is None]
        made = await asyncio.gather(*(self._capacity.in_pool(jobs[place]) for place in places))
        for one in made:
            watch.merge(one.stopwatch)
        faces, done = await self._enhancement.apply(
            [face for one in made for face in one.faces],
            request.model,
            request.geometry,
            watch,
            allowed=self._allowed(request),
        )
        start = 0
        for place, one in zip(places, made, strict=True):
            end = start + len(one.faces)
            one.faces, one.done, start = faces[start:end], done[start:end], end
            one.about, one.epoch = about[place], epoch
            seen[place] = one
        return [one for one in seen if one is not None]

    async def _cached(
        self, request: Request, asked: Sequence[tuple[str, bytes]], watch: Stopwatch
    ) -> tuple[list[Seen | None], list[bytes], bytes | None]:
        """What the cache has, what each depends on (empty: not to be kept), and the epoch."""
        nothing: list[Seen | None] = [None] * len(asked)
        if not self._cache.is_on or request.crops:
            return nothing, [b""] * len(asked), None
        with watch.stage("cache"):
            ground = await self._ground(request)
            if ground is None:
                return nothing, [b""] * len(asked), None
            about = [_digest(ground, how.encode(), data) for how, data in asked]
            found = await self._cache.find(request.tenant, about)
            seen = [None if value is None else read(value) for value in found.values]
        for done in (each for one in seen if one is not None for each in one.done):
            if done is not None:
                ENHANCEMENTS.labels(done.enhancer or "none", done.status).inc()
        return seen, about, found.epoch

    async def _ground(self, request: Request) -> bytes | None:
        """All that an answer depends on besides its picture; None where nothing is to be kept."""
        mending = await self._enhancement.ground(allowed=self._allowed(request))
        if mending is None:
            return None
        return _digest(
            f"{FORMAT} {version()}".encode(),
            self._pipeline.ground.encode(),
            request.model.identity.SerializeToString(deterministic=True),
            request.model.crop.SerializeToString(deterministic=True),
            mending,
        )

    def _allowed(self, request: Request) -> bool:
        return request.enhance and self._settings.gateway.enhance


def _is_final(one: Seen) -> bool:
    """Whether the same picture would look the same tomorrow."""
    return all(done is None or done.status is not Status.UNAVAILABLE for done in one.done)


def _digest(*parts: bytes) -> bytes:
    """One hash of several parts, each of its own length."""
    each = b"".join(hashlib.sha256(part).digest() for part in parts)
    return hashlib.sha256(each).digest()
