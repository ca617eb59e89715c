"""The gRPC face of the embedding service."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import grpc
import numpy as np

from models.zoo import EmbedderCard
from services.embedding.embedder import Crops, Embedder
from services.errors import Errors, MienError
from services.rpc.mien.v1 import embedding_pb2, embedding_pb2_grpc, model_pb2
from services.rpc.server import RpcServer, answer
from services.runtime import EngineError
from services.telemetry import get_logger
from services.telemetry.metrics import BATCH_SIZE, STAGES

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
        max_batch: most crops in one call.
    """

    def __init__(self, embedders: list[Embedder], address: str, max_batch: int) -> None:
        self._embedders = embedders
        self._rpc = RpcServer(address, [SERVICE_NAME], _MAX_MESSAGE)
        embedding_pb2_grpc.add_EmbeddingServiceServicer_to_server(
            _Servicer(embedders, max_batch), self._rpc.server
        )

    @property
    def address(self) -> str:
        """Where it listens, with the port that was really taken."""
        return self._rpc.address

    async def start(self) -> None:
        """Listens, and is ready: the embedders are warm when they are given to it."""
        await self._rpc.start()
        await self._rpc.ready()
        _log.info(
            "embedding service ready",
            address=self.address,
            models=[embedder.card.reference for embedder in self._embedders],
        )

    async def stop(self, grace: float) -> None:
        """Finishes what is at work, then frees the models."""
        await self._rpc.stop(grace)
        for embedder in self._embedders:
            embedder.close()


class _Servicer(embedding_pb2_grpc.EmbeddingServiceServicer):
    def __init__(self, embedders: list[Embedder], max_batch: int) -> None:
        self._default = embedders[0]
        self._by_reference = {embedder.card.reference: embedder for embedder in embedders}
        for embedder in reversed(embedders):
            self._by_reference[embedder.card.name] = embedder
        self._loaded = embedders
        self._max_batch = max_batch

    async def ListModels(  # noqa: N802 - gRPC's name
        self, request: embedding_pb2.ListModelsRequest, context: _Context
    ) -> embedding_pb2.ListModelsResponse:
        """Lists the models that are loaded here."""

        async def work(_: str) -> embedding_pb2.ListModelsResponse:
            ordered = sorted(self._loaded, key=lambda embedder: embedder.card.reference)
            return embedding_pb2.ListModelsResponse(
                models=[describe(embedder, embedder is self._default) for embedder in ordered]
            )

        return await answer(context, "ListModels", work)

    async def Embed(  # noqa: N802 - gRPC's name
        self, request: embedding_pb2.EmbedRequest, context: _Context
    ) -> embedding_pb2.EmbedResponse:
        """Embeds a batch of crops."""
        received = time.perf_counter()

        async def work(_: str) -> embedding_pb2.EmbedResponse:
            embedder = self._choose(request.model)
            crops = self._crops(request, embedder)
            return await asyncio.to_thread(_embed, embedder, crops, received)

        return await answer(context, "Embed", work)

    def _choose(self, reference: str) -> Embedder:
        if not reference:
            return self._default
        embedder = self._by_reference.get(reference)
        if embedder is None:
            loaded = ", ".join(sorted(e.card.reference for e in self._loaded))
            raise MienError(
                Errors.MODEL_UNKNOWN, f"That model is not loaded. Loaded: {loaded}.", field="model"
            )
        return embedder

    def _crops(self, request: embedding_pb2.EmbedRequest, embedder: Embedder) -> Crops:
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
        joined = b"".join(request.crops)
        return np.frombuffer(joined, np.uint8).reshape(-1, spec.height, spec.width, 3)


def _embed(embedder: Embedder, crops: Crops, received: float) -> embedding_pb2.EmbedResponse:
    started = time.perf_counter()
    try:
        vectors = embedder.embed(crops)
    except EngineError as error:
        _log.error("inference failed", model=embedder.card.reference, cause=str(error))
        raise MienError(Errors.INTERNAL, "The network could not be run.") from error
    finished = time.perf_counter()
    BATCH_SIZE.labels(embedder.card.reference).observe(len(crops))
    STAGES.labels("queue").observe(started - received)
    STAGES.labels("inference").observe(finished - started)
    return embedding_pb2.EmbedResponse(
        identity=identity(embedder.card),
        vectors=[vector.astype("<f4").tobytes() for vector in vectors],
        queue_ms=(started - received) * 1e3,
        inference_ms=(finished - started) * 1e3,
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
