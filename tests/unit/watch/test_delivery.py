"""Events to webhooks and Redis streams, over real connections."""

from __future__ import annotations

import hashlib
import hmac
import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import redis

from services.watch.delivery import Delivery, Payload
from services.watch.redis_stream import RedisStream
from services.watch.webhook import EVENT_ID, SIGNATURE, Webhook
from tests.unit.watch.conftest import start_redis

SECRET = "a secret of two"  # noqa: S105 - of this test


class _Listener(ThreadingHTTPServer):
    """Answers with the statuses that it is given, then with 200; keeps what it is sent."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.statuses: list[int] = []
        self.posts: list[tuple[dict[str, str], bytes]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/events"


class _Handler(BaseHTTPRequestHandler):
    server: _Listener

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.posts.append((dict(self.headers.items()), body))
        status = self.server.statuses.pop(0) if self.server.statuses else 200
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "http://127.0.0.1:1/elsewhere")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Tests need no log."""


@pytest.fixture
def listener() -> Iterator[_Listener]:
    server = _Listener()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def _event(number: int = 1) -> Payload:
    return {"event": "recognised", "camera_id": "front", "track_id": f"t{number}"}


async def _delivered(
    receiver: Webhook | RedisStream, payloads: list[Payload], most: int = 100
) -> tuple[Delivery, list[str]]:
    notices: list[str] = []
    async with Delivery(receiver, most, notices.append) as delivery:
        for payload in payloads:
            delivery.put(payload)
    return delivery, notices


async def test_an_event_arrives_though_the_receiver_fails_twice(listener: _Listener) -> None:
    listener.statuses = [500, 503]
    delivery, notices = await _delivered(Webhook(listener.url, SECRET), [_event()])
    assert delivery.counts.shown() == {"delivered": 1, "failed": 0, "overflowed": 0}
    assert [json.loads(body) for _, body in listener.posts] == [_event()] * 3
    assert len({headers[EVENT_ID] for headers, _ in listener.posts}) == 1, "repeats can be told"
    assert notices == []


async def test_posts_are_signed_with_the_shared_secret(listener: _Listener) -> None:
    await _delivered(Webhook(listener.url, SECRET), [_event()])
    ((headers, body),) = listener.posts
    seconds, digest = (part.partition("=")[2] for part in headers[SIGNATURE].split(","))
    signed = seconds.encode() + b"." + body
    expected = hmac.new(SECRET.encode(), signed, hashlib.sha256).hexdigest()
    assert digest == expected


async def test_posts_without_a_secret_are_not_signed(listener: _Listener) -> None:
    await _delivered(Webhook(listener.url, ""), [_event()])
    assert SIGNATURE not in listener.posts[0][0]


@pytest.mark.parametrize("status", [400, 302])
async def test_a_refused_event_is_told_and_the_next_is_delivered(
    listener: _Listener, status: int
) -> None:
    listener.statuses = [status]
    delivery, notices = await _delivered(Webhook(listener.url, ""), [_event(1), _event(2)])
    assert delivery.counts.shown() == {"delivered": 1, "failed": 1, "overflowed": 0}
    assert notices == [f"webhook 127.0.0.1: answered {status}"]
    assert len(listener.posts) == 2, "neither tried again nor redirected"


async def test_events_that_nobody_takes_are_counted_and_do_not_pile_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("services.watch.delivery._END_SECONDS", 0.3)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound and not listening: refused
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        events = [_event(number) for number in range(10)]
        delivery, notices = await _delivered(Webhook(url, ""), events, most=4)
    counts = delivery.counts
    assert counts.delivered == 0
    assert counts.failed + counts.overflowed == 10
    assert counts.overflowed >= 5
    assert len(notices) == 1


async def test_events_are_added_to_a_stream_in_their_order(redis_port: int) -> None:
    url = f"redis://127.0.0.1:{redis_port}/0"
    events = [_event(number) for number in range(3)]
    delivery, _ = await _delivered(RedisStream(url, "mien:events", 100), events)
    assert delivery.counts.delivered == 3
    with redis.Redis(port=redis_port, decode_responses=True) as client:
        entries: Any = client.xrange("mien:events")
    assert [json.loads(fields["data"]) for _, fields in entries] == events
    assert {fields["camera_id"] for _, fields in entries} == {"front"}


async def test_a_stream_does_not_grow_without_end(redis_port: int) -> None:
    events = [_event(number) for number in range(1500)]
    url = f"redis://127.0.0.1:{redis_port}/0"
    await _delivered(RedisStream(url, "mien:events", 100), events, most=2000)
    with redis.Redis(port=redis_port) as client:
        assert 100 <= int(client.xlen("mien:events")) <= 300


async def test_events_wait_for_a_redis_that_starts_later(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    notices: list[str] = []
    receiver = RedisStream(f"redis://127.0.0.1:{port}/0", "events", 100)
    async with Delivery(receiver, 10, notices.append) as delivery:
        delivery.put(_event())
        server = start_redis(port, tmp_path)
    server.terminate()
    server.wait(timeout=10)
    assert delivery.counts.delivered == 1
