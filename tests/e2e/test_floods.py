"""Slow, endless and countless callers of a real process, while others go on as usual."""

from __future__ import annotations

import contextlib
import json
import threading
import time

import httpx
import pytest

from tests.e2e.floods import (
    HEAD,
    HEADER_SECONDS,
    MOST,
    STALLED_SECONDS,
    answer_of,
    crowd,
    dial,
    files_of,
    is_reset,
    pour,
    resident,
    send,
    served_meanwhile,
    wait_until,
)
from tests.integration.harness import MienProcess

_CROWD = 2000
_MEMORY = 250 * 1024 * 1024


def _problem(answer: bytes | None) -> dict[str, object]:
    assert answer is not None, "the connection is still open"
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"application/problem+json" in head, answer[:200]
    assert b"x-content-type-options: nosniff" in head
    found: dict[str, object] = json.loads(body)
    return found


def test_heads_that_never_end_are_ended(flooded: MienProcess) -> None:
    with (
        served_meanwhile(flooded, "heads, byte by byte"),
        crowd(flooded.http_port, 200, HEAD) as slow,
    ):
        end = time.monotonic() + HEADER_SECONDS + 2
        while time.monotonic() < end:
            for one in slow:
                with contextlib.suppress(OSError):
                    one.sendall(b"x")
            time.sleep(0.2)
        problems = [_problem(answer_of(one, 1)) for one in slow]
    assert {problem["code"] for problem in problems} == {"request_timeout"}


def test_bodies_that_never_end_are_ended(flooded: MienProcess) -> None:
    first = HEAD + b"Content-Length: 1000000\r\n\r\n{"
    with (
        served_meanwhile(flooded, "bodies, byte by byte"),
        crowd(flooded.http_port, 200, first) as slow,
    ):
        end = time.monotonic() + STALLED_SECONDS + 2
        while time.monotonic() < end:
            for one in slow:
                with contextlib.suppress(OSError):
                    one.sendall(b" ")
            time.sleep(0.2)
        problems = [_problem(answer_of(one, 2)) for one in slow]
    assert {problem["code"] for problem in problems} == {"request_timeout"}


def test_a_body_that_comes_slowly_but_comes_is_taken(flooded: MienProcess) -> None:
    body = json.dumps({"image": "AAAA" * 8000}).encode()
    with dial(flooded.http_port) as one:
        one.sendall(
            HEAD.replace(b"verify", b"detect") + f"Content-Length: {len(body)}\r\n\r\n".encode()
        )
        pieces = 20
        for index in range(pieces):
            time.sleep(1.4 * STALLED_SECONDS / pieces)
            share = len(body) / pieces
            one.sendall(body[round(index * share) : round((index + 1) * share)])
        assert one.recv(100).startswith(b"HTTP/1.1 415")  # zeros are no picture


@pytest.mark.parametrize(
    "head",
    [
        b"GET /healthz/live HTTP/1.1\r\nHost: x\r\nX-Long: " + b"x" * 40_000 + b"\r\n\r\n",
        b"GET /healthz/live HTTP/1.1\r\nHost: x\r\nX-Endless: " + b"x" * 3_000_000,
        b"GET /healthz/live HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 10_000 + b"\r\n",
        b"GET /" + b"y" * 60_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
    ids=["a long header", "a header without end", "many headers", "a long address"],
)
def test_huge_heads_are_refused(flooded: MienProcess, head: bytes) -> None:
    with dial(flooded.http_port) as one:
        with contextlib.suppress(ConnectionError):
            one.sendall(head)
        assert one.recv(65_536).startswith(b"HTTP/1.1 431")


def test_bodies_in_endless_chunks_are_refused_and_hung_up_on(flooded: MienProcess) -> None:
    before = resident(flooded)
    chunk = b"100000\r\n" + bytes(1 << 20) + b"\r\n"
    with served_meanwhile(flooded, "endless chunks"), dial(flooded.http_port) as one:
        one.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        started = time.monotonic()
        pour(one, chunk)
        assert time.monotonic() - started < 20  # it is hung up on
    assert resident(flooded) - before < _MEMORY


@pytest.mark.parametrize(
    "framing",
    [b"1;" + b"x" * 100_000 + b"\r\n", b"0\r\n" + b"X: y\r\n" * 20_000],
    ids=["extensions of chunks", "trailers"],
)
def test_framing_is_no_place_for_endless_bytes(flooded: MienProcess, framing: bytes) -> None:
    with dial(flooded.http_port) as one:
        with contextlib.suppress(ConnectionError):
            one.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
            one.sendall(framing)
            one.sendall(framing)
        assert one.recv(65_536).startswith(b"HTTP/1.1 4")


def test_good_requests_are_answered_among_two_thousand_idle_connections(
    flooded: MienProcess,
) -> None:
    with (
        served_meanwhile(flooded, f"{_CROWD} idle connections"),
        crowd(flooded.http_port, _CROWD) as idle,
    ):
        time.sleep(1)
        assert files_of(flooded) < MOST + 200
        time.sleep(HEADER_SECONDS + 1)
        assert all(answer_of(one, 1) == b"" for one in idle)


def test_kept_connections_make_way_for_new_ones(flooded: MienProcess) -> None:
    asked = b"GET /healthz/live HTTP/1.1\r\nHost: x\r\n\r\n"
    with crowd(flooded.http_port, 1300, asked) as kept, flooded.mien.client() as client:
        time.sleep(HEADER_SECONDS + 1)  # longer than a head may take: these have asked before
        assert client.get("/healthz/live").status_code == httpx.codes.OK
        open_still = sum(answer_of(one, 0) is None for one in kept)
    assert 0.8 * MOST < open_still <= MOST


def test_a_pipeline_of_thousands_of_requests_is_hung_up_on(flooded: MienProcess) -> None:
    before = resident(flooded)
    asked = b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n" * 20_000
    with (
        served_meanwhile(flooded, "pipelines"),
        crowd(flooded.http_port, 20, asked) as piped,
    ):
        answers = [answer_of(one, 10) for one in piped]
    assert all(answer is not None for answer in answers)
    assert all((answer or b"").count(b"HTTP/1.1") < 100 for answer in answers)
    assert resident(flooded) - before < _MEMORY


def test_a_few_pipelined_requests_are_answered_in_order(flooded: MienProcess) -> None:
    paths = ["/healthz/live", "/nowhere", "/healthz/ready", "/nowhere", "/healthz/live"]
    lines = "".join(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n" for path in paths[:-1])
    last = f"GET {paths[-1]} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    with dial(flooded.http_port) as one:
        one.sendall((lines + last).encode())
        answer = answer_of(one, 10)
    assert answer is not None
    codes = [part[:3] for part in answer.split(b"HTTP/1.1 ")[1:]]
    assert codes == [b"200", b"404", b"200", b"404", b"200"]


def test_callers_who_do_not_read_their_answers_are_hung_up_on(flooded: MienProcess) -> None:
    asked = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 8
    with (
        served_meanwhile(flooded, "answers that nobody reads"),
        crowd(flooded.http_port, 10, asked) as deaf,
    ):
        for _ in range(20):  # more than the buffers of both systems take
            for one in deaf:
                send(one, asked)
            time.sleep(0.2)
        wait_until(lambda: all(map(is_reset, deaf)), 5 * STALLED_SECONDS, "they are still served")


def test_bodies_of_many_together_are_bounded(flooded: MienProcess) -> None:
    before = resident(flooded)
    first = HEAD + b"Content-Length: 26000000\r\n\r\n" + b" " * 25_000_000
    with served_meanwhile(flooded, "large bodies that wait"), contextlib.ExitStack() as stack:
        sent = [stack.enter_context(dial(flooded.http_port)) for _ in range(12)]
        pouring = [threading.Thread(target=send, args=(one, first)) for one in sent]
        for one in pouring:
            one.start()
        answers = [answer_of(one, 10 * STALLED_SECONDS) or b"" for one in sent]
        for one in pouring:
            one.join()
    assert sum(b" 429 " in answer[:20] for answer in answers) >= 8
    assert resident(flooded) - before < _MEMORY
