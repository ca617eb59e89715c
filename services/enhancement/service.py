"""The enhancement service itself: its methods on their own messages, free of any transport."""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import dataclass

import numpy as np

from models.ddat.degradations import FULL_SIDE
from models.zoo import EnhancerCard
from services.enhancement.enhancer import LEAST_SIDE, Enhancer, Pixels, Poor, QueuedEnhancer
from services.errors import Errors, MienError
from services.gain_gate import eyes_px, helping
from services.modality import measure_modality
from services.model_queue import queue_limits, submitted
from services.resolution import measure_side
from services.rpc.mien.v1 import enhancement_pb2, model_pb2
from services.rpc.thresholds import threshold_messages
from services.runtime.batcher import Done, Priority
from services.settings import EnhancementSettings
from services.telemetry.metrics import QUEUE_WAIT

_AUTO = enhancement_pb2.CONDITION_AUTO
CONDITIONS = {
    "super_resolution": enhancement_pb2.CONDITION_LOW_RESOLUTION,
    "nir_to_visible": enhancement_pb2.CONDITION_NEAR_INFRARED,
    "visible_to_nir": enhancement_pb2.CONDITION_VISIBLE,
}


@dataclass(frozen=True)
class _Task:
    """One crop and what is to be done with it; by None, nothing."""

    crop: enhancement_pb2.FaceCrop
    pixels: Pixels
    native_side: float
    by: QueuedEnhancer | None


class EnhancementService:
    """Enhances crops with loaded networks, each behind its queue, in one event loop.

    Args:
        enhancers: in the order in which they are chosen.
        settings: limits of calls, batches and queue.
    """

    def __init__(self, enhancers: list[Enhancer], settings: EnhancementSettings) -> None:
        self.queued = [QueuedEnhancer(one, queue_limits(one.engine, settings)) for one in enhancers]
        self._max_batch = settings.max_batch
        self._infos = [describe(one) for one in enhancers]

    def list_enhancers(self) -> enhancement_pb2.ListEnhancersResponse:
        """The enhancers that are loaded here."""
        ordered = sorted(self._infos, key=lambda info: (info.name, info.version))
        return enhancement_pb2.ListEnhancersResponse(enhancers=ordered)

    async def enhance(
        self, request: enhancement_pb2.EnhanceRequest, deadline: float | None
    ) -> enhancement_pb2.EnhanceResponse:
        """Enhances a batch of crops.

        Args:
            request: the call.
            deadline: `time.monotonic` after which nobody wants the answer.

        Raises:
            MienError: names the field at fault, or says what failed.
        """
        if not request.crops:
            raise MienError(Errors.INVALID_REQUEST, "At least one crop is needed.", field="crops")
        if len(request.crops) > self._max_batch:
            raise MienError(
                Errors.REQUEST_TOO_LARGE,
                f"At most {self._max_batch} crops are accepted in one call.",
                field="crops",
            )
        candidates = self._candidates(request.enhancer)
        tasks = [
            self._task(crop, f"crops[{index}]", candidates, request)
            for index, crop in enumerate(request.crops)
        ]
        bulk = request.priority == model_pb2.PRIORITY_BULK
        priority = Priority.BULK if bulk else Priority.INTERACTIVE
        return await _answer(tasks, priority, deadline)

    async def close(self) -> None:
        """Finishes what is at work, then frees the networks."""
        for one in self.queued:
            await one.close()

    def _candidates(self, reference: str) -> list[int]:
        """Places of the enhancers that a request allows."""
        if not reference:
            return list(range(len(self.queued)))
        cards = [one.enhancer.card for one in self.queued]
        found = [i for i, card in enumerate(cards) if reference in (card.reference, card.name)]
        if not found:
            loaded = ", ".join(sorted(card.reference for card in cards)) or "none"
            raise MienError(
                Errors.ENHANCER_UNKNOWN,
                f"That enhancer is not loaded. Loaded: {loaded}.",
                field="enhancer",
            )
        return found[:1]

    def _task(
        self,
        crop: enhancement_pb2.FaceCrop,
        field: str,
        candidates: list[int],
        request: enhancement_pb2.EnhanceRequest,
    ) -> _Task:
        pixels = _checked(crop, field)
        native = crop.native_side
        if crop.condition in (_AUTO, enhancement_pb2.CONDITION_UNSPECIFIED):
            native = native or measure_side(pixels)
            infos = [self._infos[place] for place in candidates]
            chosen = helping(infos, request.embedder, "", native, measure_modality(pixels))
            return _Task(crop, pixels, native, None if chosen is None else self._of(chosen))
        for place in candidates:
            if self._infos[place].condition == crop.condition:
                return _Task(crop, pixels, native or crop.side, self.queued[place])
        raise MienError(
            Errors.ENHANCER_UNKNOWN,
            "No loaded enhancer, or not the one that is named, mends this condition.",
            field=f"{field}.condition",
        )

    def _of(self, info: enhancement_pb2.EnhancerInfo) -> QueuedEnhancer:
        return self.queued[self._infos.index(info)]


class InProcessLink:
    """Calls a service in this process: the messages of the RPC, without the wire.

    Args:
        service: in the same event loop.
    """

    def __init__(self, service: EnhancementService) -> None:
        self._service = service

    async def list_enhancers(
        self, seconds: float, *, wait: bool = False
    ) -> enhancement_pb2.ListEnhancersResponse:
        """As the RPC; a service in this process is there at once."""
        del seconds, wait
        return self._service.list_enhancers()

    async def enhance(
        self, request: enhancement_pb2.EnhanceRequest, seconds: float
    ) -> enhancement_pb2.EnhanceResponse:
        """As the RPC, given up after so many ``seconds``.

        Raises:
            MienError: as the service.
        """
        return await self._service.enhance(request, time.monotonic() + seconds)

    async def close(self) -> None:
        """The service belongs to whoever started it."""


def describe(enhancer: Enhancer) -> enhancement_pb2.EnhancerInfo:
    """All that a caller must know to use an enhancer."""
    card, engine = enhancer.card, enhancer.engine.info
    return enhancement_pb2.EnhancerInfo(
        name=card.name,
        version=card.version,
        weights_sha256=card.weights.sha256,
        condition=CONDITIONS[card.operation],
        gates=_gates(card),
        engine=engine.engine,
        device=engine.device,
        precision=engine.precision,
        licence=card.licence,
    )


def _gates(card: EnhancerCard) -> list[enhancement_pb2.Gate]:
    return [
        enhancement_pb2.Gate(
            embedder=gate.embedder,
            embedder_sha256=gate.embedder_sha256,
            helps_below_eyes_px=gate.helps_below_eyes_px or 0.0,
            helps_from_eyes_px=gate.helps_from_eyes_px or 0.0,
            thresholds=threshold_messages(gate.thresholds),
        )
        for gate in card.gates
    ]


def _checked(crop: enhancement_pb2.FaceCrop, field: str) -> Pixels:
    """The crop as an array."""
    if not LEAST_SIDE <= crop.side <= FULL_SIDE:
        raise MienError(
            Errors.INVALID_REQUEST,
            f"A crop has {LEAST_SIDE} to {FULL_SIDE} pixels a side.",
            field=f"{field}.side",
        )
    if len(crop.pixels) != crop.side * crop.side * 3:
        raise MienError(
            Errors.INVALID_REQUEST,
            "A crop is side x side x 3 bytes of RGB.",
            field=f"{field}.pixels",
        )
    if not (math.isfinite(crop.native_side) and 0 <= crop.native_side <= crop.side):
        raise MienError(
            Errors.INVALID_REQUEST,
            "The native side is at most the crop's, or 0.",
            field=f"{field}.native_side",
        )
    if crop.condition not in enhancement_pb2.Condition.values():
        raise MienError(
            Errors.INVALID_REQUEST, "This condition is not known.", field=f"{field}.condition"
        )
    return np.frombuffer(crop.pixels, np.uint8).reshape(crop.side, crop.side, 3)


async def _answer(
    tasks: list[_Task], priority: Priority, deadline: float | None
) -> enhancement_pb2.EnhanceResponse:
    """Runs the tasks of each enhancer as one call of its queue, all of them side by side."""
    groups: dict[int, list[int]] = {}
    users: dict[int, QueuedEnhancer] = {}
    for index, task in enumerate(tasks):
        if task.by is not None:
            groups.setdefault(id(task.by), []).append(index)
            users[id(task.by)] = task.by

    async def run(key: int) -> Done[Pixels]:
        rows = [Poor(tasks[index].pixels, tasks[index].native_side) for index in groups[key]]
        reference = users[key].enhancer.card.reference
        done = await submitted(
            users[key].batcher, rows, reference, deadline=deadline, priority=priority
        )
        QUEUE_WAIT.labels(reference).observe(done.queue_seconds)
        return done

    finished = await asyncio.gather(*(run(key) for key in groups))
    drawn: dict[int, Pixels] = {}
    for key, done in zip(groups, finished, strict=True):
        drawn.update(zip(groups[key], done.rows, strict=True))
    return enhancement_pb2.EnhanceResponse(
        crops=[_crop(task, drawn.get(index)) for index, task in enumerate(tasks)],
        queue_ms=max((done.queue_seconds for done in finished), default=0.0) * 1e3,
        inference_ms=max((done.work_seconds for done in finished), default=0.0) * 1e3,
    )


def _crop(task: _Task, drawn: Pixels | None) -> enhancement_pb2.EnhancedCrop:
    made = enhancement_pb2.EnhancedCrop(
        pixels=task.crop.pixels,
        side=task.crop.side,
        native_side=task.native_side,
        eyes_px=eyes_px(task.native_side),
    )
    if drawn is not None and task.by is not None:
        card = task.by.enhancer.card
        made.pixels, made.side, made.synthetic = drawn.tobytes(), len(drawn), True
        made.condition = CONDITIONS[card.operation]
        made.enhancer, made.enhancer_sha256 = card.reference, card.weights.sha256
    return made
