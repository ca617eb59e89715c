"""The gateway's side of the enhancement service."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from services.errors import Errors, MienError
from services.rpc.link import ServiceLink
from services.rpc.mien.v1 import enhancement_pb2, enhancement_pb2_grpc, model_pb2
from services.rpc.tls import ClientCredentials
from services.telemetry import get_logger

Pixels = NDArray[np.uint8]

_SERVICE = enhancement_pb2.DESCRIPTOR.services_by_name["EnhancementService"].full_name
_PAUSE = 5.0  # seconds between two attempts to reach a service that did not answer
_log = get_logger(__name__)


class EnhancementLink(Protocol):
    """A way to the enhancement service: the RPCs of its proto, errors already Mien's own."""

    async def list_enhancers(
        self, seconds: float, *, wait: bool = False
    ) -> enhancement_pb2.ListEnhancersResponse:
        """Asks which enhancers are served; ``wait`` for a service that is not there yet."""
        ...

    async def enhance(
        self, request: enhancement_pb2.EnhanceRequest, seconds: float
    ) -> enhancement_pb2.EnhanceResponse:
        """Enhances a batch of crops within so many ``seconds``."""
        ...

    async def close(self) -> None:
        """Gives the way up."""
        ...


class RpcLink(ServiceLink["enhancement_pb2_grpc.EnhancementServiceAsyncStub"]):
    """Over gRPC, to a service in another process.

    Args:
        address: "host:port" or "unix:PATH".
        credentials: as those of `connect`.
    """

    def __init__(self, address: str, credentials: ClientCredentials | None = None) -> None:
        super().__init__(
            address,
            _SERVICE,
            enhancement_pb2_grpc.EnhancementServiceStub,
            "enhancement",
            Errors.ENHANCEMENT_UNAVAILABLE,
            credentials,
        )

    async def list_enhancers(
        self, seconds: float, *, wait: bool = False
    ) -> enhancement_pb2.ListEnhancersResponse:
        """Asks which enhancers are served.

        Raises:
            MienError: the service does not answer.
        """
        request = enhancement_pb2.ListEnhancersRequest()
        return await self.ask(self.stub.ListEnhancers, request, seconds, wait=wait)

    async def enhance(
        self, request: enhancement_pb2.EnhanceRequest, seconds: float
    ) -> enhancement_pb2.EnhanceResponse:
        """Enhances a batch of crops.

        Raises:
            MienError: the service refused, failed, or did not answer in time.
        """
        return await self.ask(self.stub.Enhance, request, seconds)


@dataclass(frozen=True)
class Drawn:
    """Synthetic pictures in place of crops.

    Attributes:
        pictures: one for each crop, 112 x 112 x 3, RGB, 0-255.
        queue_seconds: time that the batch waited.
        inference_seconds: time that the network took.
    """

    pictures: list[Pixels]
    queue_seconds: float
    inference_seconds: float


class EnhancementClient:
    """What the gateway knows of the enhancement service, and asks of it.

    Args:
        link: the way there.
        timeout: seconds that one call may take.
    """

    def __init__(self, link: EnhancementLink, timeout: float) -> None:
        self._link = link
        self._timeout = timeout
        self._known: list[enhancement_pb2.EnhancerInfo] | None = None
        self._ask_again = 0.0

    async def enhancers(self, *, wait: bool = False) -> list[enhancement_pb2.EnhancerInfo] | None:
        """The enhancers that are served; None while the service does not answer.

        Args:
            wait: for a service that is not there yet, as at the start of both.
        """
        if self._known is None and time.monotonic() >= self._ask_again:
            try:
                answer = await self._link.list_enhancers(self._timeout, wait=wait)
                self._known = list(answer.enhancers)
            except MienError as error:
                self._gone(error)
        return self._known

    async def enhance(
        self,
        crops: Sequence[Pixels],
        native_sides: Sequence[float],
        enhancer: enhancement_pb2.EnhancerInfo,
        *,
        bulk: bool = False,
    ) -> Drawn | None:
        """Redraws crops with one enhancer.

        Args:
            crops: each 112 x 112 x 3, RGB, 0-255.
            native_sides: pixels of the picture across each.
            enhancer: from `enhancers`.
            bulk: nobody waits for this answer in person.

        Returns:
            None if the service does not answer, or serves another enhancer by now.

        Raises:
            MienError: the service is busy, or did not answer in time.
        """
        request = enhancement_pb2.EnhanceRequest(
            crops=[
                enhancement_pb2.FaceCrop(
                    pixels=crop.tobytes(),
                    side=len(crop),
                    condition=enhancer.condition,
                    native_side=min(native, len(crop)),
                )
                for crop, native in zip(crops, native_sides, strict=True)
            ],
            enhancer=f"{enhancer.name}@{enhancer.version}",
            priority=model_pb2.PRIORITY_BULK if bulk else model_pb2.PRIORITY_INTERACTIVE,
        )
        try:
            answer = await self._link.enhance(request, self._timeout)
        except MienError as error:
            if error.error in (Errors.OVERLOADED, Errors.DEADLINE_EXCEEDED):
                raise
            self._gone(error)
            return None
        if any(one.enhancer_sha256 != enhancer.weights_sha256 for one in answer.crops):
            # The service was restarted with other weights, whose gain is another.
            self._known = None
            return None
        pictures = [
            np.frombuffer(one.pixels, np.uint8).reshape(one.side, one.side, 3)
            for one in answer.crops
        ]
        return Drawn(pictures, answer.queue_ms / 1e3, answer.inference_ms / 1e3)

    async def close(self) -> None:
        """Closes the connection."""
        await self._link.close()

    def _gone(self, error: MienError) -> None:
        _log.warning("faces are not enhanced", code=error.kind.code, seconds=_PAUSE)
        self._known = None
        self._ask_again = time.monotonic() + _PAUSE
