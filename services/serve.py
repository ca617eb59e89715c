"""Runs services: all of them in one process, or one by name. Same code, same RPCs."""

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
from prometheus_client import start_http_server

from models.zoo import Zoo
from services.embedding import Embedder, EmbeddingServer, load_embedder
from services.gateway.server import GatewayServer
from services.runtime import EngineOptions
from services.settings import Settings, SettingsError
from services.telemetry import get_logger, mark_build

_log = get_logger(__name__)

Service = Literal["all", "gateway", "embedding"]


@dataclass(frozen=True)
class Running:
    """Where a running Mien can be reached; None for what this process does not serve."""

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
        if service == "embedding" or (service == "all" and embedding_address is None):
            address = _embedding_listen_address(settings, service, stack)
            embedding = await asyncio.to_thread(_load_embedding, settings, zoo)
            server = EmbeddingServer(embedding, address, settings.embedding)
            await server.start()
            stack.push_async_callback(server.stop, grace)
            embedding_address = server.address
        if service == "embedding":
            start_http_server(settings.embedding.metrics_port, settings.embedding.host)
            yield Running(None, None, embedding_address)
            return
        if embedding_address is None:
            raise SettingsError(
                "MIEN_GATEWAY__EMBEDDING_ADDRESS: the gateway alone must be told where the "
                "embedding service is, for example embedding:50052"
            )
        gateway = GatewayServer(settings, zoo, embedding_address)
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
    options = EngineOptions(precision=settings.engine.precision, threads=settings.engine.threads)
    return [
        load_embedder(zoo, reference, settings.engine.preference, options)
        for reference in settings.embedding.models
    ]


def _embedding_listen_address(settings: Settings, service: Service, stack: AsyncExitStack) -> str:
    """A socket file that only this process knows of, unless the service stands alone."""
    if service == "embedding":
        return f"{settings.embedding.host}:{settings.embedding.port}"
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="mien-"))
    return f"unix:{Path(folder) / 'embedding.sock'}"
