"""Which callers a model service's HTTP lets in, by the names in their certificates."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.server import ServerState

from services.errors import MienError
from services.http.limits import Doorkeeper, LimitedProtocol
from services.rpc.peers import Peers

_HEALTH = "/v2/health/"
_KINDS = ("DNS", "URI")  # what `ssl` calls these kinds of alternative names


class PeerProtocol(LimitedProtocol):
    """A connection that knows who is at its other end; uvicorn tells an application nothing of it.

    Args:
        config: uvicorn's, as its base takes it.
        server_state: likewise.
        app_state: likewise.
        keeper: knows all connections of this server.
        peers: those who are let in; health is for whoever has a certificate of the authority.
    """

    app: ASGIApp

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        keeper: Doorkeeper,
        peers: Peers,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop, keeper=keeper)
        self._peers = peers

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Reads the names in the other end's certificate."""
        super().connection_made(transport)
        shown = (transport.get_extra_info("peercert") or {}).get("subjectAltName", ())
        names = [name for kind, name in shown if kind in _KINDS]
        try:
            self._peers.check(names)
        except MienError as error:
            self.app = _refusing(self.app, error)


def _refusing(app: ASGIApp, error: MienError) -> ASGIApp:
    """The application of a caller who may see health alone; errors are the protocol's."""
    refusal = JSONResponse({"error": error.detail}, error.kind.http)

    async def refusing(scope: Scope, receive: Receive, send: Send) -> Any:
        is_health = scope["type"] == "http" and scope["path"].startswith(_HEALTH)
        await (app if is_health else refusal)(scope, receive, send)

    return refusing
