"""What every gRPC server of Mien has: health, reflection, request ids, errors from one table."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, TypeVar

import grpc
from google.protobuf.message import DecodeError
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from services.errors import Errors, MienError
from services.open_files import open_files
from services.rpc.keepalive import PING_EVERY_MS
from services.rpc.reflection_pool import reflection_pool
from services.rpc.status import to_status
from services.settings import ConnectionSettings, SettingsError
from services.telemetry import (
    count_request,
    get_logger,
    new_request_id,
    timed_request,
    use_request_id,
)
from services.telemetry.request_id import HEADER

_log = get_logger(__name__)
_Answer = TypeVar("_Answer")
_Context = grpc.aio.ServicerContext[Any, Any]
_NO_MESSAGE = "The bytes are not a message of this method."

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class RpcServer:
    """A grpc.aio server with the standard services beside Mien's own.

    Args:
        address: "host:port" (port 0 takes a free one) or "unix:PATH".
        services: full names of the services that will be added.
        max_message_bytes: largest message in either direction.
        credentials: what it proves itself with, and asks of its callers; None for no TLS.
        before: interceptors that are asked before anything is read.
        limits: of connections that come from outside; None for those of Mien's own services.

    Raises:
        SettingsError: the address cannot be listened on.
    """

    def __init__(
        self,
        address: str,
        services: list[str],
        max_message_bytes: int,
        credentials: grpc.ServerCredentials | None = None,
        before: Sequence[grpc.aio.ServerInterceptor] = (),
        limits: ConnectionSettings | None = None,
    ) -> None:
        self.server = grpc.aio.server(
            interceptors=[*before, _WellFormedMessages()],
            options=[
                ("grpc.max_receive_message_length", max_message_bytes),
                ("grpc.max_send_message_length", max_message_bytes),
                ("grpc.so_reuseport", 0),
                *_limiting(limits),
            ],
        )
        self._services = services
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self.server)
        names = [*services, health.SERVICE_NAME, reflection.SERVICE_NAME]
        reflection.enable_server_reflection(names, self.server, pool=reflection_pool(names))
        try:
            if credentials is None:
                port = self.server.add_insecure_port(address)
            else:
                port = self.server.add_secure_port(address, credentials)
        except RuntimeError as error:
            raise SettingsError(
                f"{address} is taken, or is no address of this machine: gRPC cannot listen on it."
            ) from error
        self.address = address if address.startswith("unix:") else f"{_host(address)}:{port}"

    async def start(self) -> None:
        """Starts to listen; the services are NOT_SERVING until `ready`."""
        await self._set_health(NOT_SERVING)
        await self.server.start()

    async def ready(self) -> None:
        """Tells health checks that work is welcome."""
        await self._set_health(SERVING)

    async def stop(self, grace: float) -> None:
        """Turns health checks away, lets calls finish for ``grace`` seconds, then stops."""
        await self._set_health(NOT_SERVING)
        await self.server.stop(grace)

    async def _set_health(self, state: Any) -> None:
        for service in ["", *self._services]:
            await self._health.set(service, state)


async def answer(
    context: _Context, method: str, work: Callable[[str], Awaitable[_Answer]]
) -> _Answer:
    """Runs one call: request id in and out, errors to statuses, outcome to the metrics.

    Args:
        context: the call.
        method: its short name, for metrics and logs.
        work: does the call; it is given the request id. What it gives is the answer of a unary
            call; that of a stream writes its answers itself, and gives None.
    """
    metadata = dict(context.invocation_metadata() or ())
    offered = metadata.get(HEADER)
    request_id = new_request_id(offered if isinstance(offered, str) else None)
    await context.send_initial_metadata(((HEADER, request_id),))
    with use_request_id(request_id), timed_request("grpc", lambda: method, metadata, request_id):
        try:
            result = await work(request_id)
        except MienError as error:
            failure = error
        except asyncio.CancelledError:
            count_request("grpc", method, "cancelled")
            raise
        except grpc.aio.InternalError as error:  # of writing to a caller who has just left
            count_request("grpc", method, "cancelled")
            raise asyncio.CancelledError from error
        except Exception:  # noqa: BLE001 - the outermost frame: logged, and answered without its text
            _log.exception("request failed", method=method)
            failure = MienError(Errors.INTERNAL, "The request failed inside Mien.")
        else:
            count_request("grpc", method, "ok")
            return result
        count_request("grpc", method, failure.kind.code)
    await context.abort_with_status(to_status(failure))
    raise AssertionError("abort_with_status always raises")


def deadline_of(context: _Context) -> float | None:
    """`time.monotonic` after which the caller has gone; None if it waits for ever."""
    remaining = context.time_remaining()
    return None if remaining is None else time.monotonic() + remaining


class _WellFormedMessages(grpc.aio.ServerInterceptor):
    """Answers bytes that are no message as the caller's error; gRPC itself answers UNKNOWN."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        handler = await continuation(handler_call_details)
        of_stream = handler is not None and asyncio.iscoroutinefunction(handler.stream_stream)
        if handler is None or not (of_stream or asyncio.iscoroutinefunction(handler.unary_unary)):
            return handler
        method = handler_call_details.method.rpartition("/")[2]

        def parse(message: bytes) -> Any:
            try:
                return handler.request_deserializer(message)
            except DecodeError:
                return None

        async def refuse(_: str) -> None:
            raise MienError(Errors.MALFORMED_BODY, _NO_MESSAGE)

        async def behave_in_stream(requests: AsyncIterator[Any], context: _Context) -> None:
            await handler.stream_stream(_well_formed(requests), context)

        if of_stream:
            return grpc.stream_stream_rpc_method_handler(
                behave_in_stream, parse, handler.response_serializer
            )

        async def behave(request: Any, context: _Context) -> Any:
            if request is None:
                await answer(context, method, refuse)
            return await handler.unary_unary(request, context)

        return grpc.unary_unary_rpc_method_handler(behave, parse, handler.response_serializer)


async def _well_formed(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for request in requests:
        if request is None:
            raise MienError(Errors.MALFORMED_BODY, _NO_MESSAGE)
        yield request


def _limiting(limits: ConnectionSettings | None) -> list[tuple[str, int]]:
    """Channel arguments: pings and resets that come too often are ended by the library itself."""
    given = limits or ConnectionSettings()
    arguments = [
        ("grpc.server_handshake_timeout_ms", round(given.header_seconds * 1e3)),
        ("grpc.max_metadata_size", given.header_bytes),
        ("grpc.absolute_max_metadata_size", given.header_bytes),
        ("grpc.keepalive_time_ms", round(given.ping_seconds * 1e3)),
        ("grpc.keepalive_timeout_ms", round(given.header_seconds * 1e3)),
        # gRPC hangs up on those who ping more often than it is told to expect.
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", PING_EVERY_MS // 2),
    ]
    if limits is not None:
        arguments += [
            ("grpc.max_connection_idle_ms", round(given.idle_seconds * 1e3)),
            ("grpc.max_concurrent_streams", given.streams),
            ("grpc.max_allowed_incoming_connections", max(1, min(given.most, open_files() // 2))),
        ]
    return arguments


def _host(address: str) -> str:
    return address.rpartition(":")[0]
