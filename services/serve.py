"""Runs services: all of them in one process, or one by name. Same code, same messages.

In one process the gateway calls the other services directly, without the wire between them; they
listen there all the same.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import uvloop

from models.zoo import Zoo
from services.access import Guard, open_guard
from services.allocator import give_back_large_blocks
from services.embedding import (
    Embedder,
    EmbeddingServer,
    Frontalizer,
    load_configured,
    load_frontalizer,
)
from services.embedding import InProcessLink as EmbeddingInProcess
from services.enhancement import EnhancementServer, Enhancer, load_enhancer
from services.enhancement import InProcessLink as EnhancementInProcess
from services.gateway import embedding_client, enhancement_client, mapping_link
from services.gateway.server import GatewayServer
from services.http import HttpServer, service_http_tls
from services.mapping import InProcessLink as MappingInProcess
from services.mapping import Mapper, MappingServer, load_mapper
from services.model_server import ModelServer
from services.open_files import allow_many_files
from services.rpc.tls import client_credentials, service_credentials
from services.settings import Settings, SettingsError
from services.shared import Shared, limits_storage
from services.telemetry import get_logger, mark_build, tracing

_log = get_logger(__name__)

Service = Literal["all", "gateway", "embedding", "enhancement", "mapping"]


@dataclass(frozen=True)
class Running:
    """Where a running Mien can be reached; None for what this process does not serve.

    Attributes:
        rest_url: the gateway's REST, or that of the one service that runs here.
        grpc_address: the gateway's gRPC.
        embedding_address: the embedding service's gRPC.
        enhancement_address: the enhancement service's gRPC.
        mapping_address: the mapping service's gRPC.
    """

    rest_url: str | None = None
    grpc_address: str | None = None
    embedding_address: str | None = None
    enhancement_address: str | None = None
    mapping_address: str | None = None


@asynccontextmanager
async def running(settings: Settings, service: Service = "all") -> AsyncIterator[Running]:
    """Starts services and stops them again, letting work at hand finish.

    Args:
        settings: of this process.
        service: "all", or one by name.

    Raises:
        SettingsError: the gateway is to run alone and is not told where the embedding service is,
            or the enhancement service without any enhancer.
        ZooError: a model is not known, or its weights are not here.
        EngineError: no engine can run a model.
        MienError: the embedding service does not answer.
        TracingError: traces are wanted, and what sends them is not installed.
    """
    mark_build()
    zoo = Zoo(settings.home)
    async with AsyncExitStack() as stack:
        if settings.tracing.endpoint is not None:
            tracing.start(settings.tracing.endpoint, settings.tracing.ratio, service)
            stack.push_async_callback(asyncio.to_thread, tracing.stop)
        house = _House(settings, zoo, stack)
        if service == "embedding":
            server: ModelServer = await house.embedding()
            yield Running(house.alone(server, service), embedding_address=server.address)
        elif service == "enhancement":
            if not settings.enhancement.models:
                raise SettingsError("MIEN_ENHANCEMENT__MODELS: name the enhancers to be served")
            server = await house.enhancement()
            yield Running(house.alone(server, service), enhancement_address=server.address)
        elif service == "mapping":
            if not map_names(settings, zoo):
                _log.warning("there is no map to serve; `mien models add` brings one")
            server = await house.mapping()
            yield Running(house.alone(server, service), mapping_address=server.address)
        else:
            yield await house.gateway(service)


class _House:
    """The services of one process; each is stopped when the stack is left.

    Args:
        settings: of this process.
        zoo: holds the models.
        stack: of what is to be stopped.
    """

    def __init__(self, settings: Settings, zoo: Zoo, stack: AsyncExitStack) -> None:
        self._settings, self._zoo, self._stack = settings, zoo, stack
        self._grace = settings.gateway.drain_seconds
        self._folder: Path | None = None

    async def embedding(self, address: str | None = None) -> EmbeddingServer:
        """Starts the embedding service, at the settings' address if none is given."""
        settings = self._settings
        loaded = await asyncio.to_thread(_load_embedding, settings, self._zoo)
        drawing = await asyncio.to_thread(_load_frontalizers, settings, self._zoo, loaded)
        address = address or f"{settings.embedding.host}:{settings.embedding.port}"
        credentials = service_credentials(settings.tls, address)
        server = EmbeddingServer(loaded, address, settings.embedding, drawing, credentials)
        await self._start(server)
        return server

    async def enhancement(self, address: str | None = None) -> EnhancementServer:
        """Starts the enhancement service, at the settings' address if none is given."""
        settings = self._settings
        loaded = await asyncio.to_thread(_load_enhancers, settings, self._zoo)
        address = address or f"{settings.enhancement.host}:{settings.enhancement.port}"
        credentials = service_credentials(settings.tls, address)
        server = EnhancementServer(loaded, address, settings.enhancement, credentials)
        await self._start(server)
        return server

    async def mapping(self, address: str | None = None) -> MappingServer:
        """Starts the mapping service, at the settings' address if none is given."""
        settings = self._settings
        loaded = await asyncio.to_thread(_load_maps, settings, self._zoo)
        address = address or f"{settings.mapping.host}:{settings.mapping.port}"
        credentials = service_credentials(settings.tls, address)
        server = MappingServer(loaded, address, settings.mapping, credentials)
        await self._start(server)
        return server

    async def gateway(self, service: Service) -> Running:
        """Starts the gateway, and for "all" what it is not told to find elsewhere."""
        settings, here = self._settings, service == "all"
        own = client_credentials(settings.tls)
        embedding_address = settings.gateway.embedding_address
        enhancement_address = settings.gateway.enhancement_address
        link: embedding_client.EmbeddingLink
        mending: enhancement_client.EnhancementLink | None = None
        if embedding_address is not None:
            link = embedding_client.RpcLink(embedding_address, own)
        elif here:
            embedder = await self.embedding(self._socket("embedding"))
            embedding_address = embedder.address
            link = EmbeddingInProcess(embedder.service)
        else:
            raise SettingsError(
                "MIEN_GATEWAY__EMBEDDING_ADDRESS: the gateway alone must be told where the "
                "embedding service is, for example embedding:50052"
            )
        if enhancement_address is not None:
            mending = enhancement_client.RpcLink(enhancement_address, own)
        elif here and settings.enhancement.models and settings.gateway.enhance:
            enhancer = await self.enhancement(self._socket("enhancement"))
            enhancement_address = enhancer.address
            mending = EnhancementInProcess(enhancer.service)
        mapping_address = settings.gateway.mapping_address
        moving: mapping_link.MappingLink | None = None
        if mapping_address is not None:
            moving = mapping_link.RpcLink(mapping_address, own)
        elif here and map_names(settings, self._zoo):
            mapper = await self.mapping(self._socket("mapping"))
            mapping_address = mapper.address
            moving = MappingInProcess(mapper.service)
        shared = Shared.open(settings)
        self._stack.push_async_callback(shared.close)
        guard = await self._guard(shared)
        server = GatewayServer(settings, self._zoo, link, mending, moving, guard, shared)
        self._stack.push_async_callback(server.stop, self._grace)
        await server.start()
        return Running(
            server.rest_url,
            server.grpc_address,
            embedding_address,
            enhancement_address,
            mapping_address,
        )

    async def _guard(self, shared: Shared) -> Guard | None:
        storage = limits_storage(self._settings, shared.link)
        guard = await asyncio.to_thread(open_guard, self._settings, storage)
        if guard is not None:
            self._stack.push_async_callback(guard.close)
        return guard

    def alone(
        self, server: ModelServer, service: Literal["embedding", "enhancement", "mapping"]
    ) -> str:
        """Serves the inference protocol and metrics of a service by itself; gives the address."""
        own = getattr(self._settings, service)
        http = HttpServer(
            server.http_app(),
            own.host,
            own.http_port,
            setting=f"MIEN_{service.upper()}__HTTP_PORT",
            drain_seconds=self._grace,
            tls=service_http_tls(self._settings.tls),
            limits=self._settings.connections,
        )
        http.start()
        self._stack.push_async_callback(http.stop)
        return http.url

    async def _start(self, server: ModelServer) -> None:
        await server.start()
        self._stack.push_async_callback(server.stop, self._grace)

    def _socket(self, name: str) -> str:
        """A socket file that only this process knows of."""
        if self._folder is None:
            made = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="mien-"))
            self._folder = Path(made)
        return f"unix:{self._folder / name}.sock"


def serve(settings: Settings, service: Service) -> None:
    """Runs services until SIGINT or SIGTERM, then drains.

    Raises:
        SettingsError, ZooError, EngineError, MienError: as `running`.
    """
    give_back_large_blocks()
    allow_many_files()
    uvloop.run(_serve(settings, service))


async def _serve(settings: Settings, service: Service) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    async with running(settings, service):
        # What lives as long as the process: looking through it costs a tenth of a second each time.
        gc.collect()
        gc.freeze()
        await stopped.wait()
        _log.info("draining")
    _log.info("stopped")


def _load_embedding(settings: Settings, zoo: Zoo) -> list[Embedder]:
    models = settings.embedding.models
    return [load_configured(zoo, reference, settings.engine) for reference in models]


def _load_enhancers(settings: Settings, zoo: Zoo) -> list[Enhancer]:
    models = settings.enhancement.models
    return [load_enhancer(zoo, reference, settings.engine) for reference in models]


def map_names(settings: Settings, zoo: Zoo) -> tuple[str, ...]:
    """The maps that are to be served: those of the settings, or the newest of each known map."""
    named = settings.mapping.models
    cards = zoo.maps() if named is None else [zoo.map(name) for name in named]
    return tuple(dict.fromkeys(card.reference for card in cards))  # two names may be of one map


def _load_maps(settings: Settings, zoo: Zoo) -> list[Mapper]:
    return [load_mapper(zoo, one, settings.engine) for one in map_names(settings, zoo)]


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
