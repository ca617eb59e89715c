"""The embedding service itself: its methods on their own messages, free of any transport."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.zoo import EmbedderCard
from services.embedding.embedder import Embedder
from services.embedding.frontalizer import MAX_CROPS, Frontalizer, QueuedFrontalizer, Sketch
from services.embedding.queued import QueuedEmbedder
from services.embedding.template_sets import check_sets, templates
from services.errors import Errors, MienError
from services.model_queue import queue_limits, submitted
from services.rpc.mien.v1 import embedding_pb2, model_pb2
from services.rpc.thresholds import threshold_messages
from services.runtime.batcher import Priority
from services.settings import EmbeddingSettings
from services.telemetry.metrics import QUEUE_WAIT

_HALF_TURN = 180.0  # degrees
_METRICS = {"cosine": model_pb2.METRIC_COSINE, "euclidean": model_pb2.METRIC_EUCLIDEAN}


class EmbeddingService:
    """Embeds crops with loaded models, each behind its queue. All of it belongs to one event loop.

    Args:
        embedders: the first is the default.
        settings: limits of calls, batches and queue.
        frontalizers: decoders of some of the embedders.
    """

    def __init__(
        self,
        embedders: list[Embedder],
        settings: EmbeddingSettings,
        frontalizers: Sequence[Frontalizer] = (),
    ) -> None:
        self.queued = [QueuedEmbedder(one, queue_limits(one.engine, settings)) for one in embedders]
        self._max_batch = settings.max_batch
        self._by_reference = {one.embedder.card.reference: one for one in self.queued}
        for one in reversed(self.queued):
            self._by_reference[one.embedder.card.name] = one
        self._draws = settings.frontalize
        self._frontalizers = {one.card.reference: QueuedFrontalizer(one) for one in frontalizers}

    def list_models(self) -> embedding_pb2.ListModelsResponse:
        """The models that are loaded here."""
        ordered = sorted(self.queued, key=lambda one: one.embedder.card.reference)
        return embedding_pb2.ListModelsResponse(
            models=[
                describe(
                    one.embedder,
                    one is self.queued[0],
                    self._draws and one.embedder.card.reference in self._frontalizers,
                )
                for one in ordered
            ]
        )

    async def embed(
        self, request: embedding_pb2.EmbedRequest, deadline: float | None
    ) -> embedding_pb2.EmbedResponse:
        """Embeds a batch of crops.

        Args:
            request: the call.
            deadline: `time.monotonic` after which nobody wants the answer.

        Raises:
            MienError: names the field at fault, or says what failed.
        """
        chosen = self._choose(request.model)
        _check(request.crops, chosen.embedder, self._max_batch)
        check_sets(request, chosen.embedder.card)
        return await _embed(chosen, request, deadline)

    async def frontalize(
        self, request: embedding_pb2.FrontalizeRequest, deadline: float | None
    ) -> embedding_pb2.FrontalizeResponse:
        """Draws the faces of crops in another pose, for human review.

        Args:
            request: the call.
            deadline: `time.monotonic` after which nobody wants the answer.

        Raises:
            MienError: FRONTALIZE_UNAVAILABLE, or it names the field at fault, or says what failed.
        """
        if not self._draws:
            raise MienError(
                Errors.FRONTALIZE_UNAVAILABLE, "This service was not told to draw faces."
            )
        chosen = self._choose(request.model)
        drawing = self._frontalizers.get(chosen.embedder.card.reference)
        if drawing is None:
            raise MienError(
                Errors.FRONTALIZE_UNAVAILABLE,
                f"{chosen.embedder.card.reference} cannot draw faces here.",
                field="model",
            )
        _check(request.crops, chosen.embedder, min(MAX_CROPS, self._max_batch))
        if not math.isfinite(request.yaw_degrees) or abs(request.yaw_degrees) > _HALF_TURN:
            raise MienError(
                Errors.INVALID_REQUEST,
                "The yaw is in degrees, -180 to 180.",
                field="yaw_degrees",
            )
        return await _frontalize(chosen, drawing, request, deadline)

    async def close(self) -> None:
        """Finishes what is at work, then frees the models."""
        for drawing in self._frontalizers.values():
            await drawing.close()
        for one in self.queued:
            await one.close()

    def _choose(self, reference: str) -> QueuedEmbedder:
        if not reference:
            return self.queued[0]
        chosen = self._by_reference.get(reference)
        if chosen is None:
            loaded = ", ".join(sorted(one.embedder.card.reference for one in self.queued))
            raise MienError(
                Errors.MODEL_UNKNOWN, f"That model is not loaded. Loaded: {loaded}.", field="model"
            )
        return chosen


class InProcessLink:
    """Calls a service in this process: the messages of the RPC, without the wire.

    Args:
        service: in the same event loop.
    """

    def __init__(self, service: EmbeddingService) -> None:
        self._service = service

    async def list_models(
        self, seconds: float, *, wait: bool = False
    ) -> embedding_pb2.ListModelsResponse:
        """As the RPC; a service in this process is there at once."""
        del seconds, wait
        return self._service.list_models()

    async def embed(
        self, request: embedding_pb2.EmbedRequest, seconds: float
    ) -> embedding_pb2.EmbedResponse:
        """As the RPC, given up after so many ``seconds``.

        Raises:
            MienError: as the service.
        """
        return await self._service.embed(request, time.monotonic() + seconds)

    async def frontalize(
        self, request: embedding_pb2.FrontalizeRequest, seconds: float
    ) -> embedding_pb2.FrontalizeResponse:
        """As the RPC, given up after so many ``seconds``.

        Raises:
            MienError: as the service.
        """
        return await self._service.frontalize(request, time.monotonic() + seconds)

    async def close(self) -> None:
        """The service belongs to whoever started it."""


def _check(crops: Sequence[bytes], embedder: Embedder, most: int) -> None:
    """Checks number and size of crops."""
    if not crops:
        raise MienError(Errors.INVALID_REQUEST, "At least one crop is needed.", field="crops")
    if len(crops) > most:
        raise MienError(
            Errors.REQUEST_TOO_LARGE,
            f"At most {most} crops are accepted in one call.",
            field="crops",
        )
    spec = embedder.card.input
    for index, crop in enumerate(crops):
        if len(crop) != embedder.crop_bytes:
            raise MienError(
                Errors.INVALID_REQUEST,
                f"A crop for this model is {spec.height} x {spec.width} x 3 = "
                f"{embedder.crop_bytes} bytes of RGB.",
                field=f"crops[{index}]",
            )


async def _embed(
    chosen: QueuedEmbedder, request: embedding_pb2.EmbedRequest, deadline: float | None
) -> embedding_pb2.EmbedResponse:
    card = chosen.embedder.card
    bulk = request.priority == model_pb2.PRIORITY_BULK
    priority = Priority.BULK if bulk else Priority.INTERACTIVE
    done = await submitted(
        chosen.batcher, request.crops, card.reference, deadline=deadline, priority=priority
    )
    QUEUE_WAIT.labels(card.reference).observe(done.queue_seconds)
    return embedding_pb2.EmbedResponse(
        identity=identity(card),
        vectors=[_packed(row.vector) for row in done.rows],
        queue_ms=done.queue_seconds * 1e3,
        inference_ms=done.work_seconds * 1e3,
        weights=[row.weight for row in done.rows if row.weight is not None],
        lengths=[row.length for row in done.rows if row.weight is not None],
        templates=[_packed(template) for template in templates(request, done.rows, card)],
    )


async def _frontalize(
    chosen: QueuedEmbedder,
    drawing: QueuedFrontalizer,
    request: embedding_pb2.FrontalizeRequest,
    deadline: float | None,
) -> embedding_pb2.FrontalizeResponse:
    card, frontalizer = chosen.embedder.card, drawing.frontalizer
    # A reviewer can wait for those who are being recognised.
    seen = await submitted(
        chosen.batcher, request.crops, card.reference, deadline=deadline, priority=Priority.BULK
    )
    pose = frontalizer.nearest(request.yaw_degrees)
    sketches = [Sketch(frontalizer.feature(row), pose) for row in seen.rows]
    drawn = await submitted(drawing.batcher, sketches, card.reference, deadline=deadline)
    return embedding_pb2.FrontalizeResponse(
        identity=identity(card),
        synthetic=True,
        decoder_sha256=frontalizer.decoder.weights.sha256,
        images=[picture.tobytes() for picture in drawn.rows],
        yaw_degrees=frontalizer.decoder.yaw_bins[pose],
        queue_ms=(seen.queue_seconds + drawn.queue_seconds) * 1e3,
        inference_ms=(seen.work_seconds + drawn.work_seconds) * 1e3,
    )


def _packed(vector: NDArray[np.float32]) -> bytes:
    """A vector as messages hold it."""
    return vector.astype("<f4", copy=False).tobytes()


def identity(card: EmbedderCard) -> model_pb2.ModelIdentity:
    """The identity of the vectors that a model makes from pictures."""
    return model_pb2.ModelIdentity(
        name=card.name,
        version=card.version,
        weights_sha256=card.weights.sha256,
        preprocessing_sha256=card.preprocessing_sha256,
        origin=model_pb2.VECTOR_ORIGIN_NATIVE,
    )


def describe(embedder: Embedder, is_default: bool, can_frontalize: bool) -> model_pb2.ModelInfo:
    """All that a caller must know to use a model."""
    card, engine = embedder.card, embedder.engine.info
    return model_pb2.ModelInfo(
        identity=identity(card),
        crop=model_pb2.CropSpec(
            width=card.input.width,
            height=card.input.height,
            template=card.input.template,
            template_scale=card.input.template_scale,
        ),
        dimension=card.output.dimension,
        metric=_METRICS[card.output.metric],
        thresholds=threshold_messages(card.thresholds),
        licence=card.licence,
        engine=engine.engine,
        device=engine.device,
        precision=engine.precision,
        is_default=is_default,
        learned_weights=card.output.weight is not None,
        can_frontalize=can_frontalize,
    )
