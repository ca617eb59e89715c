"""Connections of callers who are slow, endless or many: each has a stage, and each stage an end."""

from __future__ import annotations

import asyncio
import enum
import json
import math
import time
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)
from uvicorn.server import ServerState

from services.errors import Errors, MienError
from services.http.security_headers import ALWAYS
from services.open_files import open_files
from services.settings.connections import ConnectionSettings
from services.telemetry import count_request, new_request_id
from services.telemetry.request_id import HEADER

_SWEEP_SECONDS = 0.5
_PIPELINED = 16  # requests that may wait behind one that is at work
_CHUNK_BYTES = 8  # of framing for each byte of a body that is sent in chunks of one
_RETRY_SECONDS = 1.0


class Stage(enum.Enum):
    """What a connection waits for."""

    HEAD = "head"
    BODY = "body"
    WORK = "work"
    LEFT_OVER = "left over"  # of a body that was answered before it had come
    IDLE = "idle"


class Doorkeeper:
    """Knows all connections of one server.

    Args:
        limits: of connections.
    """

    def __init__(self, limits: ConnectionSettings) -> None:
        self.limits = limits
        self.most = max(1, min(limits.most, open_files() // 2))
        self.connections: set[LimitedProtocol] = set()
        # In the order in which they began to wait for a request.
        self.waiting: dict[LimitedProtocol, None] = {}

    def admit(self, new: LimitedProtocol) -> None:
        """Takes a connection in; at the limit another makes way, or the new one is refused."""
        self.connections.add(new)
        if len(self.connections) <= self.most:
            return
        longest = next((one for one in self.waiting if one is not new), None)
        if longest is not None:
            longest.drop()
        else:
            new.refuse(
                MienError(
                    Errors.OVERLOADED, "All connections are at work.", retry_after=_RETRY_SECONDS
                )
            )

    def forget(self, gone: LimitedProtocol) -> None:
        """A connection has ended."""
        self.connections.discard(gone)
        self.waiting.pop(gone, None)

    async def watch(self) -> None:
        """Ends what takes too long, until it is cancelled."""
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            now = time.monotonic()
            for one in list(self.connections):
                one.look(now)


class _Progress:
    """Whether bytes keep moving at the least rate, looked at once in a window of time."""

    def __init__(self, limits: ConnectionSettings) -> None:
        self._seconds, self._rate = limits.stalled_seconds, limits.least_rate
        self.restart(0)

    def restart(self, count: int) -> None:
        self._since, self._count = time.monotonic(), count

    def stalled(self, now: float, count: int, *, gently: bool = False) -> bool:
        """Whether a window has passed with too few bytes, or with none at all if ``gently``."""
        if now - self._since < self._seconds:
            return False
        wanted = 1 if gently else math.ceil(self._rate * self._seconds)
        moved = count - self._count
        self.restart(count)
        return moved < wanted


class LimitedProtocol(HttpToolsProtocol):
    """uvicorn's connection with limits on time, bytes and requests.

    Args:
        config: uvicorn's, as its base takes it.
        server_state: likewise.
        app_state: likewise.
        keeper: knows all connections of this server.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        keeper: Doorkeeper,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._keeper, self._limits = keeper, keeper.limits
        self._stage, self._since = Stage.HEAD, time.monotonic()
        self._closed = False  # nothing more is read
        self._inside = False  # a request has begun and not ended
        self._requests = self._sent_mark = 0
        self._head_bytes = self._body_bytes = self._framed_bytes = 0
        self._cycles: list[RequestResponseCycle] = []  # of requests that are not yet answered
        self._arriving, self._leaving = _Progress(self._limits), _Progress(self._limits)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begins to wait for a head."""
        super().connection_made(transport)
        self._enter(Stage.HEAD)
        self._keeper.admit(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forgets the connection."""
        self._closed = True
        self._hang_up()
        self._keeper.forget(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Reads, and counts what is no body."""
        if self._closed:
            return
        if self._stage is Stage.IDLE:
            self._enter(Stage.HEAD)
        in_body = self._stage in (Stage.BODY, Stage.LEFT_OVER)
        requests = self._requests
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._stage is Stage.HEAD:
            self._head_bytes += len(data)
            self._check_head(self._head_bytes)
        elif in_body and self._requests == requests:  # sizes and extensions of chunks, trailers
            self._framed_bytes += len(data)
            self._check_head(self._framed_bytes - (1 + _CHUNK_BYTES) * self._body_bytes)

    def on_message_begin(self) -> None:
        """Notes that a request has begun."""
        super().on_message_begin()
        self._inside = True

    def on_headers_complete(self) -> None:
        """Hands a request with a fair head to the application."""
        if self._closed:
            return
        head = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        self._check_head(head)
        if len(self.pipeline) >= _PIPELINED:
            self.drop()
        if self.transport.is_closing():
            return
        self._requests += 1
        self._head_bytes = self._body_bytes = self._framed_bytes = 0
        self._arriving.restart(0)
        self._enter(Stage.BODY)
        super().on_headers_complete()
        unanswered = [cycle for cycle in self._cycles if not cycle.response_complete]
        self._cycles = [*unanswered, self.cycle]

    def on_body(self, body: bytes) -> None:
        """Counts what has come."""
        if self._closed:
            return
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Notes that a request has come whole."""
        self._inside = False
        if self._closed:
            return
        self._enter(Stage.IDLE if self._stage is Stage.LEFT_OVER else Stage.WORK)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Waits for what is next."""
        super().on_response_complete()
        if self._closed or self.transport.is_closing():
            return
        if self._stage is Stage.BODY and self.cycle.response_complete:
            self._enter(Stage.LEFT_OVER)
        elif not self.cycle.response_complete:
            pass  # a pipelined request is at work
        else:
            self._enter(Stage.HEAD if self._inside else Stage.IDLE)

    def send_400_response(self, msg: str) -> None:
        """Answers what is no HTTP as every other fault is answered."""
        del msg
        self.refuse(MienError(Errors.MALFORMED_BODY, "The bytes are no HTTP request."))

    def look(self, now: float) -> None:
        """Ends the connection if it takes too long over what it is at.

        Args:
            now: `time.monotonic`.
        """
        unsent = self.transport.get_write_buffer_size()
        if not unsent:
            self._leaving.restart(0)
            self._sent_mark = 0
        elif unsent > self._sent_mark:  # more was written meanwhile
            self._sent_mark = unsent
            self._leaving.restart(-unsent)
        elif self._leaving.stalled(now, -unsent):
            self._hang_up()
            self.transport.abort()
            return
        if self._closed:
            return
        waited, limits = now - self._since, self._limits
        longest = {
            Stage.HEAD: limits.header_seconds,
            Stage.LEFT_OVER: limits.stalled_seconds,
            Stage.IDLE: limits.idle_seconds,
        }
        if self._stage is Stage.BODY:
            self._look_at_body(now)
        elif waited > longest.get(self._stage, math.inf):
            if self._stage is Stage.HEAD and self._head_bytes:
                self.refuse(MienError(Errors.REQUEST_TIMEOUT, "The head did not come in time."))
            else:
                self.drop()

    def refuse(self, error: MienError) -> None:
        """Answers, if nothing else is being answered, and closes."""
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            self.transport.write(_refusal(error))
            count_request("rest", "other", error.kind.code)
        self.drop()

    def drop(self) -> None:
        """Closes without an answer."""
        self._closed = True
        self._keeper.waiting.pop(self, None)
        self._hang_up()
        self.transport.close()

    def _hang_up(self) -> None:
        """Lets applications that are at work write to nobody: the transport takes no more.

        uvicorn does so for the newest request alone, and an older one may still be at work.
        """
        for cycle in self._cycles:
            cycle.disconnected = True

    def _look_at_body(self, now: float) -> None:
        started = self.cycle is not None and self.cycle.response_started
        if self.flow.read_paused:  # it is Mien that is slow
            self._arriving.restart(self._body_bytes)
        elif self._arriving.stalled(now, self._body_bytes, gently=started):
            self.refuse(MienError(Errors.REQUEST_TIMEOUT, "The body did not come in time."))

    def _check_head(self, count: int) -> None:
        if count > self._limits.header_bytes:
            self.refuse(
                MienError(
                    Errors.HEADERS_TOO_LARGE,
                    f"At most {self._limits.header_bytes} bytes are accepted before a body.",
                )
            )

    def _enter(self, stage: Stage) -> None:
        self._stage, self._since = stage, time.monotonic()
        self._keeper.waiting.pop(self, None)
        if stage in (Stage.HEAD, Stage.IDLE):
            self._keeper.waiting[self] = None


def _refusal(error: MienError) -> bytes:
    """A whole answer, for requests that never reach the application."""
    kind, request_id = error.kind, new_request_id(None)
    problem: dict[str, object] = {
        "type": f"urn:mien:error:{kind.code}",
        "title": kind.title,
        "status": kind.http,
        "detail": error.detail,
        "instance": "",
        "code": kind.code,
        "request_id": request_id,
    }
    headers = {
        "content-type": "application/problem+json",
        HEADER: request_id,
        **ALWAYS,
        "connection": "close",
    }
    if error.retry_after is not None:
        problem["retry_after"] = error.retry_after
        headers["retry-after"] = str(math.ceil(error.retry_after))
    body = json.dumps(problem).encode()
    headers["content-length"] = str(len(body))
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return STATUS_LINE[kind.http] + lines.encode() + b"\r\n" + body
