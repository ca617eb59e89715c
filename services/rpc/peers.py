"""Which callers a model service lets in, by the names in their certificates."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

import grpc

from services.errors import Errors, MienError
from services.rpc.server import answer

_Context = grpc.aio.ServicerContext[Any, Any]
_HEALTH = "/grpc.health.v1.Health/"
_NAMES = ("peer_dns", "peer_uri")  # what gRPC tells of a certificate's alternative names


@dataclass(frozen=True)
class Peers:
    """Names of those who are let in.

    Attributes:
        names: DNS names and URIs, as they stand in certificates; a wildcard stands for itself.
    """

    names: frozenset[str]

    def check(self, shown: Iterable[str]) -> None:
        """Refuses a caller none of whose names is known.

        Args:
            shown: the DNS names and URIs of its certificate.

        Raises:
            MienError: PERMISSION_DENIED.
        """
        if self.names.isdisjoint(shown):
            raise MienError(
                Errors.PERMISSION_DENIED,
                "No name in the caller's certificate is among MIEN_TLS__PEERS.",
            )


class PeerInterceptor(grpc.aio.ServerInterceptor):
    """Asks every call whose it is; health is for whoever has a certificate of the authority.

    Args:
        peers: those who are let in.
    """

    def __init__(self, peers: Peers) -> None:
        self._peers = peers

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """The handler of a call, behind a look at its certificate."""
        handler, method = await continuation(handler_call_details), handler_call_details.method
        if handler is None or method.startswith(_HEALTH):
            return handler
        name = method.rpartition("/")[2]
        kind = _kind(handler)
        make = getattr(grpc, f"{kind}_rpc_method_handler")
        return make(
            self._checked(getattr(handler, kind), name),
            handler.request_deserializer,
            handler.response_serializer,
        )

    def _checked(self, behave: Callable[..., Any], method: str) -> Callable[..., Any]:
        """A behaviour that refuses strangers, of the form that it has: gRPC tells them apart."""
        if not inspect.isasyncgenfunction(behave):

            async def answered(given: Any, context: _Context) -> Any:
                await self._refuse_strangers(context, method)
                return await behave(given, context)

            return answered

        async def told(given: Any, context: _Context) -> AsyncIterator[Any]:
            await self._refuse_strangers(context, method)
            async for one in behave(given, context):
                yield one

        return told

    async def _refuse_strangers(self, context: _Context, method: str) -> None:
        shown = context.auth_context()
        names = [one.decode(errors="replace") for key in _NAMES for one in shown.get(key, ())]
        try:
            self._peers.check(names)
        except MienError as error:
            refusal = error
        else:
            return

        async def refused(_: str) -> None:
            raise refusal

        await answer(context, method, refused)


def _kind(handler: Any) -> str:
    asked = "stream" if handler.request_streaming else "unary"
    return f"{asked}_{'stream' if handler.response_streaming else 'unary'}"
