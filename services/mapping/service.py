"""The mapping service itself: its methods on their own messages, free of any transport."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import numpy as np

from models.zoo.card import latest
from services.errors import Errors, MienError
from services.mapping.checks import check_source, unpacked
from services.mapping.info import describe, mapped_identity
from services.mapping.mapper import Mapper, QueuedMapper
from services.mapping.stream import Answered, stream
from services.model_queue import queue_limits, submitted
from services.rpc.mien.v1 import mapping_pb2, model_pb2
from services.runtime.batcher import Priority
from services.settings import MappingSettings
from services.telemetry.metrics import QUEUE_WAIT

_SHARE_OF_STREAMS = 2  # they hold one in so many places of the queue: others find room


class MappingService:
    """Maps vectors with loaded maps, each behind its queue. All of it belongs to one event loop.

    Args:
        mappers: of no two the same name and version.
        settings: limits of calls, batches and queue.
    """

    def __init__(self, mappers: list[Mapper], settings: MappingSettings) -> None:
        self.queued = [QueuedMapper(one, queue_limits(one.engine, settings)) for one in mappers]
        self.max_batch = settings.max_batch
        places = settings.queue_rows // (_SHARE_OF_STREAMS * settings.max_batch)
        self._places = asyncio.Semaphore(max(1, places))

    def list_maps(self) -> mapping_pb2.ListMapsResponse:
        """The maps that are loaded here."""
        infos = [describe(one.mapper) for one in self.queued]
        return mapping_pb2.ListMapsResponse(
            maps=sorted(infos, key=lambda info: (info.name, info.version)),
            max_batch=self.max_batch,
        )

    async def map(
        self, request: mapping_pb2.MapRequest, deadline: float | None
    ) -> mapping_pb2.MapResponse:
        """Maps a batch of vectors.

        Args:
            request: the call.
            deadline: `time.monotonic` after which nobody wants the answer.

        Raises:
            MienError: names the field at fault, or says what failed.
        """
        chosen = self._choose(request)
        card = chosen.mapper.card
        check_source(request.source, card)
        vectors = unpacked(request.vectors, card, self.max_batch)
        bulk = request.priority == model_pb2.PRIORITY_BULK
        priority = Priority.BULK if bulk else Priority.INTERACTIVE
        done = await submitted(
            chosen.batcher, list(vectors), card.reference, deadline=deadline, priority=priority
        )
        QUEUE_WAIT.labels(card.reference).observe(done.queue_seconds)
        return mapping_pb2.MapResponse(
            identity=mapped_identity(card),
            map_sha256=card.weights.sha256,
            vectors=[row.vector.astype("<f4", copy=False).tobytes() for row in done.rows],
            confidences=np.array([row.confidence for row in done.rows], np.float32),
            queue_ms=done.queue_seconds * 1e3,
            inference_ms=done.work_seconds * 1e3,
        )

    async def map_stream(
        self,
        batches: AsyncIterator[mapping_pb2.MapStreamRequest],
        answered: Answered,
        deadline: float | None,
    ) -> None:
        """Maps batch after batch; see `stream`.

        Args:
            batches: as they come.
            answered: takes the answers, in order.
            deadline: `time.monotonic` after which nobody wants more of them.

        Raises:
            MienError: names the batch at fault; all batches before it have been answered.
        """

        async def work(request: mapping_pb2.MapRequest) -> mapping_pb2.MapResponse:
            async with self._places:
                return await self.map(request, deadline)

        await stream(batches, work, answered, deadline)

    async def close(self) -> None:
        """Finishes what is at work, then frees the maps."""
        for one in self.queued:
            await one.close()

    def _choose(self, request: mapping_pb2.MapRequest) -> QueuedMapper:
        """The map that a request means.

        Raises:
            MienError: there is none, or several.
        """
        found = self._named(request.map) if request.map else list(self.queued)
        if request.target:
            found = self._leading(found, request.target)
        elif not request.map:
            raise MienError(
                Errors.INVALID_REQUEST, "Name a map, or the model that is wanted.", field="map"
            )
        return found[0] if len(found) == 1 else _of_source(found, request.source)

    def _named(self, reference: str) -> list[QueuedMapper]:
        """The map of a name and version, or the newest of a name.

        Raises:
            MienError: MODEL_UNKNOWN.
        """
        cards = {one.mapper.card.reference: one for one in self.queued}
        if reference in cards:
            return [cards[reference]]
        versions = {
            one.mapper.card.version: one for one in self.queued if one.mapper.card.name == reference
        }
        if not versions:
            raise self._unknown("That map is not loaded.", "map")
        return [versions[latest(list(versions))]]

    def _leading(self, maps: list[QueuedMapper], target: str) -> list[QueuedMapper]:
        """Those of some maps that lead to a model.

        Raises:
            MienError: MODEL_UNKNOWN if none does.
        """
        found = [
            one
            for one in maps
            if target in (one.mapper.card.target.name, one.mapper.card.target.reference)
        ]
        if not found:
            raise self._unknown("No such map leads to that model.", "target")
        return found

    def _unknown(self, why: str, field: str) -> MienError:
        loaded = ", ".join(sorted(one.mapper.card.reference for one in self.queued)) or "none"
        return MienError(Errors.MODEL_UNKNOWN, f"{why} Loaded: {loaded}.", field=field)


def _of_source(maps: list[QueuedMapper], source: model_pb2.ModelIdentity) -> QueuedMapper:
    """Of several maps that lead to one model, the one that takes these vectors.

    Raises:
        MienError: none does, or several.
    """
    told = (source.name, source.version)
    ends = [(one, one.mapper.card.source) for one in maps]
    found = [one for one, end in ends if (end.name, end.version) == told]
    if not found:
        raise MienError(
            Errors.IDENTITY_MISMATCH,
            "None of the maps that lead there takes vectors of this model.",
            field="source.name",
        )
    if len(found) > 1:
        raise MienError(
            Errors.INVALID_REQUEST, "Several maps lead there; name one of them.", field="map"
        )
    return found[0]


class InProcessLink:
    """Calls a service in this process: the messages of the RPC, without the wire.

    Args:
        service: in the same event loop.
    """

    def __init__(self, service: MappingService) -> None:
        self._service = service

    async def list_maps(
        self, seconds: float, *, wait: bool = False
    ) -> mapping_pb2.ListMapsResponse:
        """As the RPC; a service in this process is there at once."""
        del seconds, wait
        return self._service.list_maps()

    async def map(self, request: mapping_pb2.MapRequest, seconds: float) -> mapping_pb2.MapResponse:
        """As the RPC, given up after so many ``seconds``.

        Raises:
            MienError: as the service.
        """
        return await self._service.map(request, time.monotonic() + seconds)

    async def map_stream(
        self,
        batches: AsyncIterator[mapping_pb2.MapStreamRequest],
        answered: Answered,
        seconds: float,
    ) -> None:
        """As the RPC; nothing gets lost on the way, so that no answer has to be given up.

        Raises:
            MienError: as the service.
        """
        del seconds
        await self._service.map_stream(batches, answered, None)

    async def close(self) -> None:
        """The service belongs to whoever started it."""
