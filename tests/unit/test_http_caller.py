"""The callers of benchmarks: a connection that the service has closed is replaced."""

from __future__ import annotations

import asyncio

from services.bench.load import HttpCaller

_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
_REQUEST = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


async def test_a_connection_that_was_closed_while_idle_is_opened_anew() -> None:
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(_ANSWER)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    caller = HttpCaller(server.sockets[0].getsockname()[1], [_REQUEST], 1)
    await caller.open()
    async with asyncio.timeout(5):
        assert await caller(0) == 200
        writers[0].close()
        await asyncio.sleep(0.1)
        assert await caller(1) == 200
    assert len(writers) == 2
    caller.close()
    server.close()
