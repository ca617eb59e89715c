"""The gRPC face of the enhancement service."""

from __future__ import annotations

from typing import Any

import grpc

from services.enhancement.enhancer import Enhancer
from services.enhancement.service import EnhancementService
from services.inference_protocol import ServedModel, served_network
from services.model_queue import queue_limits
from services.model_server import ModelServer
from services.rpc.mien.v1 import enhancement_pb2, enhancement_pb2_grpc
from services.rpc.server import answer, deadline_of
from services.rpc.tls import ServiceCredentials
from services.settings import EnhancementSettings
from services.telemetry import get_logger

SERVICE_NAME = enhancement_pb2.DESCRIPTOR.services_by_name["EnhancementService"].full_name
_log = get_logger(__name__)
_Context = grpc.aio.ServicerContext[Any, Any]


class EnhancementServer(ModelServer):
    """Serves loaded enhancers.

    Args:
        enhancers: in the order in which they are chosen.
        address: "host:port" or "unix:PATH".
        settings: limits of calls, batches and queue.
        credentials: as those of `ModelServer`.
    """

    def __init__(
        self,
        enhancers: list[Enhancer],
        address: str,
        settings: EnhancementSettings,
        credentials: ServiceCredentials | None = None,
    ) -> None:
        self.service = EnhancementService(enhancers, settings)
        networks = [_network(one, settings) for one in enhancers]
        super().__init__(address, SERVICE_NAME, networks, credentials)
        enhancement_pb2_grpc.add_EnhancementServiceServicer_to_server(
            _Servicer(self.service), self.rpc
        )

    async def start(self) -> None:
        """Listens, and is ready: the enhancers are warm when they are given to it."""
        await super().start()
        _log.info(
            "enhancement service ready",
            address=self.address,
            models=[one.enhancer.card.reference for one in self.service.queued],
        )

    async def stop(self, grace: float) -> None:
        """Finishes what is at work, then frees the networks."""
        await super().stop(grace)
        await self.service.close()


class _Servicer(enhancement_pb2_grpc.EnhancementServiceServicer):
    def __init__(self, service: EnhancementService) -> None:
        self._service = service

    async def ListEnhancers(  # noqa: N802 - gRPC's name
        self, request: enhancement_pb2.ListEnhancersRequest, context: _Context
    ) -> enhancement_pb2.ListEnhancersResponse:
        """Lists the enhancers that are loaded here."""

        async def work(_: str) -> enhancement_pb2.ListEnhancersResponse:
            return self._service.list_enhancers()

        return await answer(context, "ListEnhancers", work)

    async def Enhance(  # noqa: N802 - gRPC's name
        self, request: enhancement_pb2.EnhanceRequest, context: _Context
    ) -> enhancement_pb2.EnhanceResponse:
        """Enhances a batch of crops."""
        deadline = deadline_of(context)

        async def work(_: str) -> enhancement_pb2.EnhanceResponse:
            return await self._service.enhance(request, deadline)

        return await answer(context, "Enhance", work)


def _network(one: Enhancer, settings: EnhancementSettings) -> ServedModel:
    side = one.card.input.side
    limits = queue_limits(one.engine, settings)
    return served_network(
        one.card.name, one.card.version, one.engine, (3, side, side), limits, settings.max_batch
    )
