"""gRPC: lets callers in before their message is read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from services.access import Guard, rpc_rule
from services.access.policy import RPC
from services.errors import MienError
from services.gateway.gallery_requests import TENANT_KEY
from services.rpc.server import answer

_Context = grpc.aio.ServicerContext[Any, Any]


class AccessInterceptor(grpc.aio.ServerInterceptor):
    """Asks the guard about every call.

    Args:
        guard: lets callers in.
    """

    def __init__(self, guard: Guard) -> None:
        self._guard = guard

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """The handler of a call, or one that refuses it."""
        method = handler_call_details.method
        given = dict(handler_call_details.invocation_metadata or ())
        try:
            await self._guard.admit(
                rpc_rule(method),
                _text(given.get("authorization")),
                _text(given.get("x-api-key")),
                _text(given.get(TENANT_KEY)),
            )
        except MienError as error:
            # A name that is not ours comes from the caller: it must not become a metric.
            return _refusal(method.rpartition("/")[2] if method in RPC else "other", error)
        return await continuation(handler_call_details)


def _refusal(method: str, error: MienError) -> grpc.RpcMethodHandler[Any, Any]:
    """A handler that answers without reading a message, whether the call is a stream or not."""

    async def refused(_: str) -> None:
        raise error

    async def behave(_: Any, context: _Context) -> None:
        await answer(context, method, refused)

    return grpc.stream_stream_rpc_method_handler(behave)


def _text(value: str | bytes | None) -> str | None:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
