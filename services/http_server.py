"""An HTTP server in the process's own event loop, started and stopped like the gRPC ones."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp

from services.settings import SettingsError

_KEEP_ALIVE = 75  # seconds that an idle connection stays open
_BACKLOG = 2048


class HttpServer:
    """uvicorn for one application.

    Args:
        app: the application.
        host: to listen on.
        port: to listen on; 0 takes a free one.
        setting: name of the port's setting, for the error.
        drain_seconds: time to finish requests when it is stopped.

    Raises:
        SettingsError: the port is taken, or the host is no address of this machine.
    """

    def __init__(
        self, app: ASGIApp, host: str, port: int, *, setting: str, drain_seconds: float
    ) -> None:
        self._socket = _listen(host, port, setting)
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="off",
            timeout_keep_alive=_KEEP_ALIVE,
            timeout_graceful_shutdown=round(drain_seconds),
        )
        self._server = _Server(config)
        self._task: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """Where it listens, with the port that was really taken."""
        host, port = self._socket.getsockname()[:2]
        return f"http://{host}:{port}"

    def start(self) -> None:
        """Begins to answer."""
        self._task = asyncio.create_task(self._server.serve(sockets=[self._socket]))

    async def stop(self) -> None:
        """Takes no new connections, finishes the requests at work, then stops."""
        self._server.should_exit = True
        if self._task is not None:
            await self._task
        else:
            self._socket.close()


class _Server(uvicorn.Server):
    """uvicorn without signal handling of its own: one place stops all services."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leaves signals to `mien serve`."""
        yield


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
