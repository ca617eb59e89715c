"""What the server of every model service is: its RPCs and the Open Inference Protocol."""

from __future__ import annotations

from collections.abc import Sequence

import grpc
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from services.inference_protocol import SERVICE_NAME as INFERENCE_SERVICE_NAME
from services.inference_protocol import (
    ServedModel,
    ServedModels,
    add_inference_service,
    inference_routes,
)
from services.rpc.channel import MAX_MESSAGE
from services.rpc.peers import PeerInterceptor
from services.rpc.server import RpcServer
from services.rpc.tls import ServiceCredentials


class ModelServer:
    """Serves networks over the Open Inference Protocol; a service adds its own RPCs.

    Args:
        address: "host:port" or "unix:PATH".
        service: full name of the service that will be added.
        served: its networks.
        credentials: what it proves itself with, and whom it answers; None for no TLS.
    """

    def __init__(
        self,
        address: str,
        service: str,
        served: Sequence[ServedModel],
        credentials: ServiceCredentials | None = None,
    ) -> None:
        self._served = list(served)
        peers = None if credentials is None else credentials.peers
        self._rpc = RpcServer(
            address,
            [service, INFERENCE_SERVICE_NAME],
            MAX_MESSAGE,
            None if credentials is None else credentials.server,
            [] if peers is None else [PeerInterceptor(peers)],
        )
        add_inference_service(ServedModels(self._served), self._rpc.server)

    @property
    def rpc(self) -> grpc.aio.Server:
        """To which the service adds its RPCs."""
        return self._rpc.server

    @property
    def address(self) -> str:
        """Where it listens, with the port that was really taken."""
        return self._rpc.address

    def http_app(self) -> Starlette:
        """The inference protocol over REST, health and metrics, for a server of its own."""
        return Starlette(
            routes=[
                *inference_routes(ServedModels(self._served), MAX_MESSAGE),
                Route("/metrics", _metrics),
            ]
        )

    async def start(self) -> None:
        """Listens, and is ready: the networks are warm when they are given to it."""
        await self._rpc.start()
        await self._rpc.ready()

    async def stop(self, grace: float) -> None:
        """Turns new work away, finishes what is at work for ``grace`` seconds."""
        await self._rpc.stop(grace)
        for model in self._served:
            await model.close()


async def _metrics(_: Request) -> Response:
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
