"""The gRPC face of the embedding service."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grpc

from services.embedding.embedder import Embedder
from services.embedding.frontalizer import Frontalizer
from services.embedding.inference_models import served_models
from services.embedding.service import EmbeddingService
from services.model_queue import queue_limits
from services.model_server import ModelServer
from services.rpc.mien.v1 import embedding_pb2, embedding_pb2_grpc
from services.rpc.server import answer, deadline_of
from services.rpc.tls import ServiceCredentials
from services.settings import EmbeddingSettings
from services.telemetry import get_logger

SERVICE_NAME = embedding_pb2.DESCRIPTOR.services_by_name["EmbeddingService"].full_name
_log = get_logger(__name__)
_Context = grpc.aio.ServicerContext[Any, Any]


class EmbeddingServer(ModelServer):
    """Serves loaded embedders.

    Args:
        embedders: the first is the default.
        address: "host:port" or "unix:PATH".
        settings: limits of calls, batches and queue.
        frontalizers: decoders of some of the embedders.
        credentials: as those of `ModelServer`.
    """

    def __init__(
        self,
        embedders: list[Embedder],
        address: str,
        settings: EmbeddingSettings,
        frontalizers: Sequence[Frontalizer] = (),
        credentials: ServiceCredentials | None = None,
    ) -> None:
        self.service = EmbeddingService(embedders, settings, frontalizers)
        limits = queue_limits(embedders[0].engine, settings)
        served = served_models(self.service.queued, limits, settings.max_batch)
        super().__init__(address, SERVICE_NAME, served, credentials)
        embedding_pb2_grpc.add_EmbeddingServiceServicer_to_server(_Servicer(self.service), self.rpc)

    async def start(self) -> None:
        """Listens, and is ready: the embedders are warm when they are given to it."""
        await super().start()
        _log.info(
            "embedding service ready",
            address=self.address,
            models=[one.embedder.card.reference for one in self.service.queued],
        )

    async def stop(self, grace: float) -> None:
        """Finishes what is at work, then frees the models."""
        await super().stop(grace)
        await self.service.close()


class _Servicer(embedding_pb2_grpc.EmbeddingServiceServicer):
    def __init__(self, service: EmbeddingService) -> None:
        self._service = service

    async def ListModels(  # noqa: N802 - gRPC's name
        self, request: embedding_pb2.ListModelsRequest, context: _Context
    ) -> embedding_pb2.ListModelsResponse:
        """Lists the models that are loaded here."""

        async def work(_: str) -> embedding_pb2.ListModelsResponse:
            return self._service.list_models()

        return await answer(context, "ListModels", work)

    async def Embed(  # noqa: N802 - gRPC's name
        self, request: embedding_pb2.EmbedRequest, context: _Context
    ) -> embedding_pb2.EmbedResponse:
        """Embeds a batch of crops."""
        deadline = deadline_of(context)

        async def work(_: str) -> embedding_pb2.EmbedResponse:
            return await self._service.embed(request, deadline)

        return await answer(context, "Embed", work)

    async def Frontalize(  # noqa: N802 - gRPC's name
        self, request: embedding_pb2.FrontalizeRequest, context: _Context
    ) -> embedding_pb2.FrontalizeResponse:
        """Draws the faces of crops in another pose."""
        deadline = deadline_of(context)

        async def work(_: str) -> embedding_pb2.FrontalizeResponse:
            return await self._service.frontalize(request, deadline)

        return await answer(context, "Frontalize", work)
