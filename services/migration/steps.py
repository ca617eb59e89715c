"""The steps of every batch: read, map, store; each is tried again while what it needs is away."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Protocol, TypeVar

import numpy as np
import stamina

from services.errors import Errors, MienError
from services.gallery import Collection, Gallery, Job, Space, Template, Written
from services.gallery.values import Vector
from services.gateway.mapping_client import MappingClient
from services.migration.metrics import RETRIES
from services.migration.spaces import leads, native_identity
from services.rpc.mien.v1 import mapping_pb2

_Result = TypeVar("_Result")

_PASSING = {
    Errors.OVERLOADED,
    Errors.NOT_READY,
    Errors.DEADLINE_EXCEEDED,
    Errors.MAPPING_UNAVAILABLE,
    Errors.GALLERY_UNAVAILABLE,
}
_FIRST_WAIT, _LONGEST_WAIT = 0.05, 5.0  # seconds


class Ahead(Protocol):
    """What a map has made before it is asked for."""

    async def look(self, templates: Sequence[Template]) -> list[tuple[Vector, float] | None]:
        """Vector and confidence of each, or None."""
        ...


class Steps:
    """Moves templates from one space to another.

    Args:
        gallery: holds both.
        mapping: the way to the map.
        ends: source and target.
        map_name: "name@version".
        map_sha256: of the map's weights.
        patience: seconds for which a step is tried.
        before: runs before each try; what it raises ends the step.

    Attributes:
        ahead: what was mapped beforehand, if anything.
    """

    def __init__(
        self,
        gallery: Gallery,
        mapping: MappingClient,
        ends: tuple[Space, Space],
        map_name: str,
        map_sha256: str,
        patience: float,
        before: Callable[[], Awaitable[None]],
    ) -> None:
        self._gallery, self._mapping = gallery, mapping
        self.source, self.target = ends
        self._map_name, self._map_sha256 = map_name, map_sha256
        self._patience = patience
        self._before = before
        self.ahead: Ahead | None = None

    async def read(self, after: int, limit: int) -> list[Template]:
        """Templates of the source behind a sequence number, at most ``limit``."""
        return await self.patiently(lambda: self._gallery.scan(self.source, after, limit))

    async def mapped(self, templates: Sequence[Template]) -> list[Template]:
        """Native templates of the source as templates of the target.

        Raises:
            MienError: the map is gone for too long, is another one now, or refuses them.
        """
        if self.ahead is None:
            return await self._by_service(templates)
        known = await self.ahead.look(templates)
        rest = [one for one, row in zip(templates, known, strict=True) if row is None]
        fresh = iter(await self._by_service(rest))
        return [
            next(fresh) if row is None else self._made(one, *row)
            for one, row in zip(templates, known, strict=True)
        ]

    async def store(self, templates: Sequence[Template], job: Job) -> Written:
        """Stores mapped templates together with the state that says so."""
        if not templates:
            await self.patiently(lambda: self._gallery.put_job(job))
            return Written(0, 0)
        return await self.patiently(
            lambda: self._gallery.write(self.target, templates, derived_from=self.source, job=job)
        )

    async def end_of_source(self) -> int:
        """Sequence number of the source's latest write."""
        return (await self.patiently(lambda: collection(self._gallery, self.source))).last

    async def patiently(self, work: Callable[[], Awaitable[_Result]]) -> _Result:
        """Does something again while it fails for reasons that pass."""

        def passes(error: Exception) -> bool:
            passing = isinstance(error, MienError) and error.error in _PASSING
            if passing and isinstance(error, MienError):
                RETRIES.labels(self._map_name, error.kind.code).inc()
            return passing

        async for attempt in stamina.retry_context(
            on=passes,
            attempts=None,
            timeout=self._patience,
            wait_initial=_FIRST_WAIT,
            wait_max=_LONGEST_WAIT,
            wait_jitter=_FIRST_WAIT,
        ):
            with attempt:
                await self._before()
                return await work()
        raise AssertionError("the last attempt raises what it ended in")

    async def _by_service(self, templates: Sequence[Template]) -> list[Template]:
        made: list[Template] = []
        start = 0
        while start < len(templates):
            done = await self.patiently(partial(self._map, templates, start))
            made += done
            start += len(done)
        return made

    async def _map(self, templates: Sequence[Template], start: int) -> list[Template]:
        """Maps as many templates, from one on, as the service takes at once."""
        info = await self._mapping.map_info(self._map_name)
        self._check(info)
        if not self._mapping.max_batch:
            await self._mapping.refresh()
        part = templates[start : start + self._mapping.max_batch]
        vectors = stacked(part, self.source)
        answer = await self._mapping.map(vectors, native_identity(self.source), info, bulk=True)
        rows = zip(part, answer.vectors, answer.confidences.tolist(), strict=True)
        return [self._made(old, vector, confidence) for old, vector, confidence in rows]

    def _made(self, old: Template, vector: Vector, confidence: float) -> Template:
        """A template of the target in place of one of the source."""
        return Template(
            tenant=old.tenant,
            subject_id=old.subject_id,
            id=old.id,
            space=self.target,
            vector=vector,
            map=self._map_name,
            confidence=min(1.0, max(-1.0, confidence)),
            quality=old.quality,
            pictures=old.pictures,
            created=old.created,
            sequence=old.sequence,
        )

    def _check(self, info: mapping_pb2.MapInfo) -> None:
        if info.weights_sha256 != self._map_sha256 or not leads(info, self.source, self.target):
            raise MienError(
                Errors.IDENTITY_MISMATCH,
                f"{self._map_name} is another map now than the one that was planned with.",
                field="map",
            )


def stacked(templates: Sequence[Template], space: Space) -> Vector:
    """Vectors of a space's native templates, of length 1, as maps take them: N x dimension."""
    vectors: Vector = np.stack([one.vector for one in templates])
    if space.metric != "cosine":  # else they are stored at length 1
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


async def collection(gallery: Gallery, space: Space) -> Collection:
    """A space's collection.

    Raises:
        MienError: COLLECTION_UNKNOWN.
    """
    for one in await gallery.collections():
        if one.space == space:
            return one
    raise MienError(
        Errors.COLLECTION_UNKNOWN, f"The gallery has no templates of {space.reference}."
    )
