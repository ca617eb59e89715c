"""A way over gRPC to one of Mien's own services: deadlines, retries, and errors as Mien's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import grpc
from opentelemetry.trace import SpanKind

from services.errors import Errors, MienError
from services.rpc.channel import call_metadata, connect, told
from services.rpc.tls import ClientCredentials
from services.telemetry import get_logger
from services.telemetry.tracing import spanned

_log = get_logger(__name__)
_Stub = TypeVar("_Stub")
_Request = TypeVar("_Request")
_Answer = TypeVar("_Answer")


class ServiceLink(Generic[_Stub]):
    """Calls a service in another process. What never reached a server is tried again.

    The type of its stub is named in quotes: generated code has it for type checkers alone.

    Args:
        address: "host:port" or "unix:PATH".
        service: its full name.
        stub: makes its stub.
        title: what it is called, for people.
        unavailable: what it is when it says nothing.
        credentials: as those of `connect`.
    """

    def __init__(
        self,
        address: str,
        service: str,
        stub: Callable[[grpc.aio.Channel], _Stub],
        title: str,
        unavailable: Errors,
        credentials: ClientCredentials | None = None,
    ) -> None:
        self._channel = connect(address, service, credentials)
        self.stub = stub(self._channel)
        self._title, self._unavailable = title, unavailable

    async def ask(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[_Request, _Answer],
        request: _Request,
        seconds: float,
        *,
        wait: bool = False,
    ) -> _Answer:
        """Makes one call.

        Args:
            method: of the stub.
            request: its message.
            seconds: that it may take.
            wait: for a service that is not there yet.

        Raises:
            MienError: the service refused, failed, or did not answer in time.
        """
        with spanned(f"call {self._title}", SpanKind.CLIENT):
            try:
                return await method(
                    request, timeout=seconds, metadata=call_metadata(), wait_for_ready=wait
                )
            except grpc.aio.AioRpcError as error:
                raise self.failure(error) from error

    def failure(self, error: grpc.aio.AioRpcError) -> MienError:
        """A failed call as Mien's own error.

        A service that refuses this process's certificate refuses nothing of its caller's.
        """
        if error.code() is grpc.StatusCode.PERMISSION_DENIED:
            _log.error("a service does not let this one in", service=self._title)
            detail = f"The {self._title} service does not let this one in."
            return MienError(self._unavailable, detail)
        return told(error, self._title, self._unavailable)

    async def close(self) -> None:
        """Closes the connection."""
        await self._channel.close()
