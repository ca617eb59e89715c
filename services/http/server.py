"""An HTTP server in the process's own event loop, started and stopped like the gRPC ones."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import ssl
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp

from services.http.limits import Doorkeeper, LimitedProtocol
from services.http.peers import PeerProtocol
from services.http.security_headers import SecurityHeaders
from services.http.tls import HttpTls
from services.settings import ConnectionSettings, SettingsError

_BACKLOG = 2048
_LOOK_SECONDS = 1.0  # between two looks at the certificate's files


class HttpServer:
    """uvicorn for one application.

    Args:
        app: the application.
        host: to listen on.
        port: to listen on; 0 takes a free one.
        setting: name of the port's setting, for the error.
        drain_seconds: time to finish requests when it is stopped.
        tls: None for none.
        limits: of its connections.

    Raises:
        SettingsError: the port is taken, the host is no address of this machine, or a certificate
            cannot be used.
    """

    def __init__(
        self,
        app: ASGIApp,
        host: str,
        port: int,
        *,
        setting: str,
        drain_seconds: float,
        tls: HttpTls | None = None,
        limits: ConnectionSettings | None = None,
    ) -> None:
        self._tls, context = tls, None if tls is None else tls.context()
        self._socket = _listen(host, port, setting)
        limits = limits or ConnectionSettings()
        self._keeper = Doorkeeper(limits)
        peers = None if tls is None else tls.peers
        protocol = (
            functools.partial(LimitedProtocol, keeper=self._keeper)
            if peers is None
            else functools.partial(PeerProtocol, keeper=self._keeper, peers=peers)
        )
        config = uvicorn.Config(
            SecurityHeaders(app),
            http=protocol,  # type: ignore[arg-type]
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="off",
            timeout_keep_alive=round(limits.idle_seconds),
            timeout_graceful_shutdown=round(drain_seconds),
            ssl_context_factory=None if context is None else lambda *_: context,
        )
        self._server = _Server(config)
        self._context = context
        self._task: asyncio.Task[None] | None = None
        self._watches: list[asyncio.Task[None]] = []

    @property
    def url(self) -> str:
        """Where it listens, with the port that was really taken."""
        host, port = self._socket.getsockname()[:2]
        return f"{'http' if self._tls is None else 'https'}://{host}:{port}"

    def start(self) -> None:
        """Begins to answer."""
        self._task = asyncio.create_task(self._server.serve(sockets=[self._socket]))
        self._watches = [asyncio.create_task(self._keeper.watch())]
        if self._tls is not None and self._context is not None:
            self._watches.append(asyncio.create_task(_follow(self._tls, self._context)))

    async def stop(self) -> None:
        """Takes no new connections, finishes the requests at work, then stops."""
        self._server.should_exit = True
        if self._task is not None:
            await self._task
        else:
            self._socket.close()
        for watch in self._watches:  # until now they ended what would have held up the end
            watch.cancel()


class _Server(uvicorn.Server):
    """uvicorn without signal handling of its own: one place stops all services."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leaves signals to `mien serve`."""
        yield


async def _follow(tls: HttpTls, context: ssl.SSLContext) -> None:
    """Takes up certificates that are renewed while the server runs."""
    seen = tls.stamps()
    while True:
        await asyncio.sleep(_LOOK_SECONDS)
        stamps = tls.stamps()
        if stamps and stamps != seen:
            seen = stamps
            tls.renew(context)


def _listen(host: str, port: int, setting: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise SettingsError(
            f"{setting}: {host}:{port} is taken, or is no address of this machine."
        ) from error
    listener.set_inheritable(True)
    return listener
