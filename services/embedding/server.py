"""The gRPC face of the embedding service."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import grpc
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from services.embedding.embedder import Embedder
from services.embedding.frontalizer import Frontalizer
from services.embedding.inference_models import served_models
from services.embedding.service import EmbeddingService, batcher_options
from services.inference_protocol import SERVICE_NAME as INFERENCE_SERVICE_NAME
from services.inference_protocol import ServedModels, add_inference_service, inference_routes
from services.rpc.mien.v1 import embedding_pb2, embedding_pb2_grpc
from services.rpc.server import RpcServer, answer
from services.settings import EmbeddingSettings
from services.telemetry import get_logger

SERVICE_NAME = embedding_pb2.DESCRIPTOR.services_by_name["EmbeddingService"].full_name
_MAX_MESSAGE = 64 * 1024 * 1024
_log = get_logger(__name__)
_Context = grpc.aio.ServicerContext[Any, Any]


class EmbeddingServer:
    """Serves loaded embedders.

    Args:
        embedders: the first is the default.
        address: "host:port" or "unix:PATH".
        settings: limits of calls, batches and queue.
        frontalizers: decoders of some of the embedders.
    """

    def __init__(
        self,
        embedders: list[Embedder],
        address: str,
        settings: EmbeddingSettings,
        frontalizers: Sequence[Frontalizer] = (),
    ) -> None:
        self.service = EmbeddingService(embedders, settings, frontalizers)
        limits = batcher_options(embedders[0], settings)
        self._served = served_models(self.service.queued, limits, settings.max_batch)
        self._rpc = RpcServer(address, [SERVICE_NAME, INFERENCE_SERVICE_NAME], _MAX_MESSAGE)
        add_inference_service(ServedModels(self._served), self._rpc.server)
        embedding_pb2_grpc.add_EmbeddingServiceServicer_to_server(
            _Servicer(self.service), self._rpc.server
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
            models=[one.embedder.card.reference for one in self.service.queued],
        )

    async def stop(self, grace: float) -> None:
        """Finishes what is at work, then frees the models."""
        await self._rpc.stop(grace)
        for model in self._served:
            await model.close()
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
        deadline = _deadline(context)

        async def work(_: str) -> embedding_pb2.EmbedResponse:
            return await self._service.embed(request, deadline)

        return await answer(context, "Embed", work)

    async def Frontalize(  # noqa: N802 - gRPC's name
        self, request: embedding_pb2.FrontalizeRequest, context: _Context
    ) -> embedding_pb2.FrontalizeResponse:
        """Draws the faces of crops in another pose."""
        deadline = _deadline(context)

        async def work(_: str) -> embedding_pb2.FrontalizeResponse:
            return await self._service.frontalize(request, deadline)

        return await answer(context, "Frontalize", work)


def _deadline(context: _Context) -> float | None:
    """`time.monotonic` after which the caller has gone."""
    remaining = context.time_remaining()
    return None if remaining is None else time.monotonic() + remaining


async def _metrics(_: Request) -> Response:
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
