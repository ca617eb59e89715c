"""The gRPC face of the mapping service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc

from services.mapping.inference_models import served_map
from services.mapping.mapper import Mapper
from services.mapping.service import MappingService
from services.model_server import ModelServer
from services.rpc.mien.v1 import mapping_pb2, mapping_pb2_grpc
from services.rpc.server import answer, deadline_of
from services.rpc.tls import ServiceCredentials
from services.settings import MappingSettings
from services.telemetry import get_logger

SERVICE_NAME = mapping_pb2.DESCRIPTOR.services_by_name["MappingService"].full_name
_log = get_logger(__name__)
_Context = grpc.aio.ServicerContext[Any, Any]


class MappingServer(ModelServer):
    """Serves loaded maps.

    Args:
        mappers: of no two the same name and version; there may be none.
        address: "host:port" or "unix:PATH".
        settings: limits of calls, batches and queue.
        credentials: as those of `ModelServer`.
    """

    def __init__(
        self,
        mappers: list[Mapper],
        address: str,
        settings: MappingSettings,
        credentials: ServiceCredentials | None = None,
    ) -> None:
        self.service = MappingService(mappers, settings)
        served = [served_map(one, settings.max_batch) for one in self.service.queued]
        super().__init__(address, SERVICE_NAME, served, credentials)
        mapping_pb2_grpc.add_MappingServiceServicer_to_server(_Servicer(self.service), self.rpc)

    async def start(self) -> None:
        """Listens, and is ready: the maps are warm when they are given to it."""
        await super().start()
        _log.info(
            "mapping service ready",
            address=self.address,
            models=[one.mapper.card.reference for one in self.service.queued],
        )

    async def stop(self, grace: float) -> None:
        """Finishes what is at work, then frees the maps."""
        await super().stop(grace)
        await self.service.close()


class _Servicer(mapping_pb2_grpc.MappingServiceServicer):
    def __init__(self, service: MappingService) -> None:
        self._service = service

    async def ListMaps(  # noqa: N802 - gRPC's name
        self, request: mapping_pb2.ListMapsRequest, context: _Context
    ) -> mapping_pb2.ListMapsResponse:
        """Lists the maps that are loaded here."""

        async def work(_: str) -> mapping_pb2.ListMapsResponse:
            return self._service.list_maps()

        return await answer(context, "ListMaps", work)

    async def Map(  # noqa: N802 - gRPC's name
        self, request: mapping_pb2.MapRequest, context: _Context
    ) -> mapping_pb2.MapResponse:
        """Maps a batch of vectors."""
        deadline = deadline_of(context)

        async def work(_: str) -> mapping_pb2.MapResponse:
            return await self._service.map(request, deadline)

        return await answer(context, "Map", work)

    # A coroutine that writes its answers itself, which grpc.aio takes and its stubs do not know: it
    # is cancelled where it stands, whereas a generator is left to the garbage collector.
    async def MapStream(  # type: ignore[override]  # noqa: N802 - gRPC's name
        self,
        request_iterator: AsyncIterator[mapping_pb2.MapStreamRequest],
        context: _Context,
    ) -> None:
        """Maps batch after batch."""
        deadline = deadline_of(context)

        async def work(_: str) -> None:
            await self._service.map_stream(request_iterator, context.write, deadline)

        await answer(context, "MapStream", work)
