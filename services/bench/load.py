"""Callers that wait for each answer before they ask again (a closed loop), and what they saw."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import httptools
import numpy as np

Call = Callable[[int], Awaitable[int]]
"""Makes one call, given its number; returns a status, 0 or 200 when all is well."""

_GOOD = (0, 200)


@dataclass
class Load:
    """What callers saw.

    Attributes:
        seconds: how long they went on.
        latencies: seconds of each call that was answered well.
        refusals: seconds of each call that was not, by status.
    """

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    refusals: dict[int, list[float]] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Calls answered well, per second."""
        return len(self.latencies) / self.seconds

    def percentile_ms(self, percent: float) -> float:
        """A percentile of the latencies, milliseconds."""
        return float(np.percentile(self.latencies, percent)) * 1e3 if self.latencies else 0.0

    def summary(self) -> dict[str, float]:
        """Percentiles in milliseconds."""
        return {f"p{p}_ms": round(self.percentile_ms(p), 3) for p in (50, 95, 99)}

    def add(self, other: Load) -> None:
        """Takes in another turn of the same callers."""
        self.seconds += other.seconds
        self.latencies += other.latencies
        for status, seconds in other.refusals.items():
            self.refusals.setdefault(status, []).extend(seconds)


async def closed_loop(call: Call, concurrency: int, seconds: float) -> Load:
    """Lets a number of callers ask for some time.

    Args:
        call: makes one call.
        concurrency: callers at once.
        seconds: for how long; calls at work then are waited for and counted.
    """
    load = Load()
    started = time.perf_counter()
    numbers = iter(range(10**12))

    async def caller() -> None:
        while time.perf_counter() - started < seconds:
            began = time.perf_counter()
            status = await call(next(numbers))
            spent = time.perf_counter() - began
            if status in _GOOD:
                load.latencies.append(spent)
            else:
                load.refusals.setdefault(status, []).append(spent)

    await asyncio.gather(*(caller() for _ in range(concurrency)))
    load.seconds = time.perf_counter() - started
    return load


class HttpCaller:
    """Posts ready-made requests over kept-open connections, at next to no cost of its own.

    Args:
        port: on this machine.
        requests: whole HTTP requests, used in turn.
        connections: as many as there are callers.
    """

    def __init__(self, port: int, requests: list[bytes], connections: int) -> None:
        self._port = port
        self._requests = requests
        self._free: asyncio.LifoQueue[_Connection] = asyncio.LifoQueue()
        self._count = connections

    async def open(self) -> None:
        """Opens the connections."""
        for _ in range(self._count):
            self._free.put_nowait(await self._opened())

    async def __call__(self, number: int) -> int:
        """Makes one call and returns its HTTP status."""
        return await self.send(self._requests[number % len(self._requests)])

    async def send(self, request: bytes) -> int:
        """Makes a call with a request of its own and returns its HTTP status."""
        connection = await self._free.get()
        try:
            if connection.is_lost:  # the service hangs up on what was idle for long
                connection = await self._opened()
            return await connection.ask(request)
        finally:
            self._free.put_nowait(connection)

    async def _opened(self) -> _Connection:
        loop = asyncio.get_running_loop()
        return (await loop.create_connection(_Connection, "127.0.0.1", self._port))[1]

    def close(self) -> None:
        """Closes the connections."""
        while not self._free.empty():
            self._free.get_nowait().close()


def post_multipart(path: str, fields: dict[str, bytes]) -> bytes:
    """A whole POST request whose body is a form of files."""
    boundary = b"mien-bench-boundary"
    body = b"".join(
        b'--%b\r\nContent-Disposition: form-data; name="%b"; filename="p.jpg"\r\n\r\n%b\r\n'
        % (boundary, name.encode(), data)
        for name, data in fields.items()
    )
    body += b"--%b--\r\n" % boundary
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n"
        f"Content-Type: multipart/form-data; boundary={boundary.decode()}\r\n\r\n"
    )
    return head.encode() + body


class _Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self.is_lost = False
        self._answer: asyncio.Future[int] | None = None
        self._parser = httptools.HttpResponseParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - TCP always gives one
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(self._parser.get_status_code())
        self._parser = httptools.HttpResponseParser(self)

    def connection_lost(self, error: Exception | None) -> None:
        self.is_lost = True
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error or ConnectionResetError("the service hung up"))

    async def ask(self, request: bytes) -> int:
        if self._transport is None:
            raise ConnectionError("not connected")
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()
