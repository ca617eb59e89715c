"""A connection that is ended while its requests are at work."""

from __future__ import annotations

import asyncio

import uvloop
from starlette.types import Receive, Scope, Send

from services.http.server import HttpServer

_ASKED = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


async def _ended(requests: int) -> list[BaseException]:
    """What happens to applications that answer after the end."""
    faults: list[BaseException] = []
    begun, ended, answered = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        begun.set()
        await ended.wait()
        try:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"late"})
        except BaseException as error:
            faults.append(error)
            raise
        finally:
            answered.set()

    server = HttpServer(app, "127.0.0.1", 0, setting="port", drain_seconds=1)
    server.start()
    reader, writer = await asyncio.open_connection(*server._socket.getsockname()[:2])
    writer.write(_ASKED * requests)
    await asyncio.wait_for(begun.wait(), 5)
    (connection,) = server._keeper.connections
    connection.drop()
    assert await reader.read() == b""
    ended.set()
    await asyncio.wait_for(answered.wait(), 5)
    writer.close()
    await server.stop()
    return faults


def test_an_answer_to_nobody_is_no_fault() -> None:
    for requests in (1, 3):
        assert uvloop.run(_ended(requests)) == []
