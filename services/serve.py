"""Runs services: all of them in one process, or one by name. Same code, same messages.

In one process the gateway calls the embedding service directly, without the wire between them; the
service listens there all the same.
"""

from __future__ import annotations

import asyncio
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import uvloop

from models.zoo import Zoo
from services.embedding import (
    Embedder,
    EmbeddingServer,
    Frontalizer,
    InProcessLink,
    load_configured,
    load_frontalizer,
)
from services.gateway.embedding_client import EmbeddingLink, RpcLink
from services.gateway.server import GatewayServer
from services.http_server import HttpServer
from services.settings import Settings, SettingsError
from services.telemetry import get_logger, mark_build

_log = get_logger(__name__)

Service = Literal["all", "gateway", "embedding"]


@dataclass(frozen=True)
class Running:
    """Where a running Mien can be reached; None for what this process does not serve.

    Attributes:
        rest_url: the gateway's REST, or the embedding service's when it runs alone.
        grpc_address: the gateway's gRPC.
        embedding_address: the embedding service's gRPC.
    """

    rest_url: str | None
    grpc_address: str | None
    embedding_address: str | None


@asynccontextmanager
async def running(settings: Settings, service: Service = "all") -> AsyncIterator[Running]:
    """Starts services and stops them again, letting work at hand finish.

    Args:
        settings: of this process.
        service: "all", or one by name.

    Raises:
        SettingsError: the gateway is to run alone and is not told where the embedding service is.
        ZooError: a model is not known, or its weights are not here.
        EngineError: no engine can run a model.
        MienError: the embedding service does not answer.
    """
    mark_build()
    zoo = Zoo(settings.home)
    grace = settings.gateway.drain_seconds
    async with AsyncExitStack() as stack:
        embedding_address = settings.gateway.embedding_address
        link: EmbeddingLink | None = None
        if service == "embedding" or (service == "all" and embedding_address is None):
            address = _embedding_listen_address(settings, service, stack)
            embedding = await asyncio.to_thread(_load_embedding, settings, zoo)
            drawing = await asyncio.to_thread(_load_frontalizers, settings, zoo, embedding)
            server = EmbeddingServer(embedding, address, settings.embedding, drawing)
            await server.start()
            stack.push_async_callback(server.stop, grace)
            embedding_address = server.address
            link = InProcessLink(server.service)
        if service == "embedding":
            http = _embedding_http(settings, server)
            http.start()
            stack.push_async_callback(http.stop)
            yield Running(http.url, None, embedding_address)
            return
        if link is None and embedding_address is not None:
            link = RpcLink(embedding_address)
        if link is None:
            raise SettingsError(
                "MIEN_GATEWAY__EMBEDDING_ADDRESS: the gateway alone must be told where the "
                "embedding service is, for example embedding:50052"
            )
        gateway = GatewayServer(settings, zoo, link)
        stack.push_async_callback(gateway.stop, grace)
        await gateway.start()
        yield Running(gateway.rest_url, gateway.grpc_address, embedding_address)


def serve(settings: Settings, service: Service) -> None:
    """Runs services until SIGINT or SIGTERM, then drains.

    Raises:
        SettingsError, ZooError, EngineError, MienError: as `running`.
    """
    uvloop.run(_serve(settings, service))


async def _serve(settings: Settings, service: Service) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    async with running(settings, service):
        await stopped.wait()
        _log.info("draining")
    _log.info("stopped")


def _load_embedding(settings: Settings, zoo: Zoo) -> list[Embedder]:
    models = settings.embedding.models
    return [load_configured(zoo, reference, settings.engine) for reference in models]


def _load_frontalizers(
    settings: Settings, zoo: Zoo, embedders: list[Embedder]
) -> list[Frontalizer]:
    """The decoders of the models that have one, where the settings want faces to be drawn."""
    if not settings.embedding.frontalize:
        return []
    cards = [one.card for one in embedders if one.card.decoder is not None]
    if not cards:
        _log.warning("no model that is served can draw faces", setting="MIEN_EMBEDDING__FRONTALIZE")
    return [load_frontalizer(zoo, card, settings.engine) for card in cards]


def _embedding_http(settings: Settings, server: EmbeddingServer) -> HttpServer:
    """The Open Inference Protocol over REST, and the metrics, of the service by itself."""
    embedding = settings.embedding
    return HttpServer(
        server.http_app(),
        embedding.host,
        embedding.http_port,
        setting="MIEN_EMBEDDING__HTTP_PORT",
        drain_seconds=settings.gateway.drain_seconds,
    )


def _embedding_listen_address(settings: Settings, service: Service, stack: AsyncExitStack) -> str:
    """A socket file that only this process knows of, unless the service stands alone."""
    if service == "embedding":
        return f"{settings.embedding.host}:{settings.embedding.port}"
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="mien-"))
    return f"unix:{Path(folder) / 'embedding.sock'}"
