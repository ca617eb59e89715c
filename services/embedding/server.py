"""The gRPC face of the embedding service."""

from __future__ import annotations

import time
from typing import Any

import grpc
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from models.zoo import EmbedderCard
from services.embedding.embedder import Embedder
from services.embedding.inference_models import served_models
from services.embedding.queued import QueuedEmbedder
from services.errors import Errors, MienError
from services.inference_protocol import SERVICE_NAME as INFERENCE_SERVICE_NAME
from services.inference_protocol import ServedModels, add_inference_service, inference_routes
from services.rpc.mien.v1 import embedding_pb2, embedding_pb2_grpc, model_pb2
from services.rpc.server import RpcServer, answer
from services.runtime import EngineError
from services.runtime.batcher import BatcherOptions, DeadlinePassedError, Priority, QueueFullError
from services.runtime.triton_engine import EngineBusyError
from services.settings import EmbeddingSettings
from services.telemetry import get_logger
from services.telemetry.metrics import QUEUE_WAIT

SERVICE_NAME = embedding_pb2.DESCRIPTOR.services_by_name["EmbeddingService"].full_name
_MAX_MESSAGE = 64 * 1024 * 1024
_log = get_logger(__name__)
_Context = grpc.aio.ServicerContext[Any, Any]
_METRICS = {"cosine": model_pb2.METRIC_COSINE, "euclidean": model_pb2.METRIC_EUCLIDEAN}


class EmbeddingServer:
    """Serves loaded embedders.

    Args:
        embedders: the first is the default.
        address: "host:port" or "unix:PATH".
        settings: limits of calls, batches and queue.
    """

    def __init__(
        self, embedders: list[Embedder], address: str, settings: EmbeddingSettings
    ) -> None:
        self._queued = [QueuedEmbedder(one, _options(one, settings)) for one in embedders]
        limits = _options(embedders[0], settings)
        self._served = served_models(self._queued, limits, settings.max_batch)
        self._rpc = RpcServer(address, [SERVICE_NAME, INFERENCE_SERVICE_NAME], _MAX_MESSAGE)
        add_inference_service(ServedModels(self._served), self._rpc.server)
        embedding_pb2_grpc.add_EmbeddingServiceServicer_to_server(
            _Servicer(self._queued, settings.max_batch), self._rpc.server
        )

    @property
    def address(self) -> str:
        """Where it listens, with the port that was really taken."""
        return self._rpc.address

    def http_app(self) -> Starlette:
        """The inference protocol over REST, health and metrics, for a server of its own."""
        return Starlette(
            routes=[
                *inference_routes(ServedModels(self._served), _MAX_MESSAGE),
                Route("/metrics", _metrics),
            ]
        )

    async def start(self) -> None:
        """Listens, and is ready: the embedders are warm when they are given to it."""
        await self._rpc.start()
        await self._rpc.ready()
        _log.info(
            "embedding service ready",
            address=self.address,
            models=[one.embedder.card.reference for one in self._queued],
        )

    async def stop(self, grace: float) -> None:
        """Finishes what is at work, then frees the models."""
        await self._rpc.stop(grace)
        for model in self._served:
            await model.close()
        for one in self._queued:
            await one.close()


class _Servicer(embedding_pb2_grpc.EmbeddingServiceServicer):
    def __init__(self, loaded: list[QueuedEmbedder], max_batch: int) -> None:
        self._loaded = loaded
        self._max_batch = max_batch
        self._by_reference = {one.embedder.card.reference: one for one in loaded}
        for one in reversed(loaded):
            self._by_reference[one.embedder.card.name] = one

    async def ListModels(  # noqa: N802 - gRPC's name
        self, request: embedding_pb2.ListModelsRequest, context: _Context
    ) -> embedding_pb2.ListModelsResponse:
        """Lists the models that are loaded here."""

        async def work(_: str) -> embedding_pb2.ListModelsResponse:
            ordered = sorted(self._loaded, key=lambda one: one.embedder.card.reference)
            return embedding_pb2.ListModelsResponse(
                models=[describe(one.embedder, one is self._loaded[0]) for one in ordered]
            )

        return await answer(context, "ListModels", work)

    async def Embed(  # noqa: N802 - gRPC's name
        self, request: embedding_pb2.EmbedRequest, context: _Context
    ) -> embedding_pb2.EmbedResponse:
        """Embeds a batch of crops."""
        remaining = context.time_remaining()
        deadline = None if remaining is None else time.monotonic() + remaining

        async def work(_: str) -> embedding_pb2.EmbedResponse:
            chosen = self._choose(request.model)
            self._check(request, chosen.embedder)
            return await _embed(chosen, request, deadline)

        return await answer(context, "Embed", work)

    def _choose(self, reference: str) -> QueuedEmbedder:
        if not reference:
            return self._loaded[0]
        chosen = self._by_reference.get(reference)
        if chosen is None:
            loaded = ", ".join(sorted(one.embedder.card.reference for one in self._loaded))
            raise MienError(
                Errors.MODEL_UNKNOWN, f"That model is not loaded. Loaded: {loaded}.", field="model"
            )
        return chosen

    def _check(self, request: embedding_pb2.EmbedRequest, embedder: Embedder) -> None:
        if not request.crops:
            raise MienError(Errors.INVALID_REQUEST, "At least one crop is needed.", field="crops")
        if len(request.crops) > self._max_batch:
            raise MienError(
                Errors.REQUEST_TOO_LARGE,
                f"At most {self._max_batch} crops are accepted in one call.",
                field="crops",
            )
        spec = embedder.card.input
        for index, crop in enumerate(request.crops):
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
    bulk = request.priority == embedding_pb2.PRIORITY_BULK
    try:
        done = await chosen.batcher.submit(
            request.crops,
            deadline=deadline,
            priority=Priority.BULK if bulk else Priority.INTERACTIVE,
        )
    except QueueFullError as error:
        raise MienError(
            Errors.OVERLOADED, "The model's queue is full.", retry_after=error.retry_after
        ) from error
    except DeadlinePassedError as error:
        raise MienError(Errors.DEADLINE_EXCEEDED, "The deadline passed in the queue.") from error
    except EngineBusyError as error:
        raise MienError(
            Errors.OVERLOADED, "The model's server is full.", retry_after=1.0
        ) from error
    except EngineError as error:
        _log.error("inference failed", model=card.reference, cause=str(error))
        raise MienError(Errors.INTERNAL, "The network could not be run.") from error
    QUEUE_WAIT.labels(card.reference).observe(done.queue_seconds)
    return embedding_pb2.EmbedResponse(
        identity=identity(card),
        vectors=[vector.astype("<f4", copy=False).tobytes() for vector in done.rows],
        queue_ms=done.queue_seconds * 1e3,
        inference_ms=done.work_seconds * 1e3,
    )


async def _metrics(_: Request) -> Response:
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


def _options(embedder: Embedder, settings: EmbeddingSettings) -> BatcherOptions:
    return BatcherOptions(
        max_batch=settings.batch_rows,
        max_wait=settings.batch_wait_ms / 1e3,
        max_rows=max(settings.queue_rows, settings.max_batch),
        # One more than the engine's streams: it is prepared while the others are inferred.
        workers=embedder.engine.info.streams + 1,
    )


def identity(card: EmbedderCard) -> model_pb2.ModelIdentity:
    """The identity of the vectors that a model makes from pictures."""
    return model_pb2.ModelIdentity(
        name=card.name,
        version=card.version,
        weights_sha256=card.weights.sha256,
        preprocessing_sha256=card.preprocessing_sha256,
        origin=model_pb2.VECTOR_ORIGIN_NATIVE,
    )


def describe(embedder: Embedder, is_default: bool) -> model_pb2.ModelInfo:
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
        thresholds=[
            model_pb2.Threshold(
                fmr=threshold.fmr,
                similarity=threshold.similarity,
                interval_low=threshold.interval[0],
                interval_high=threshold.interval[1],
            )
            for threshold in sorted(card.thresholds, key=lambda t: -t.fmr)
        ],
        licence=card.licence,
        engine=engine.engine,
        device=engine.device,
        precision=engine.precision,
        is_default=is_default,
    )
