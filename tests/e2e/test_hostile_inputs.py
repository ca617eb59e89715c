"""Whatever is sent, over either interface: an answer of the 4xx kind, and a process that lives."""

from __future__ import annotations

import contextlib
import errno
import gc
import http.client
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import httpx
import pytest

from services.errors import BY_CODE
from services.rpc.mien.v1 import face_pb2
from tests.e2e.hostile_requests import BODIES, FORM, GOOD, JSON, PARTS, PICTURE, messages
from tests.hostile import encoded, gradient, hostile_images
from tests.integration.harness import MienProcess, code_of
from tests.integration.pictures import jpeg, portrait

_MEMORY_SLACK = 60 * 1024 * 1024
_ROUNDS = 3
_FAIR_CODES = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.OUT_OF_RANGE,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.UNIMPLEMENTED,
}


@pytest.fixture(scope="module")
def server(
    mien_home: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[MienProcess, Path]]:
    path = tmp_path_factory.mktemp("hostile") / "log"
    with path.open("wb") as log, MienProcess(mien_home, log) as process:
        yield process.wait_until_ready(), path


def _settled(process: MienProcess, enough: int) -> int:
    """Bytes that the process holds, as soon as they are few enough, or after some seconds."""
    deadline = time.monotonic() + 10
    while (held := _resident(process)) > enough and time.monotonic() < deadline:
        time.sleep(0.5)
    return held


def _resident(process: MienProcess) -> int:
    gc.collect()
    status = Path(f"/proc/{process.process.pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


def _check(name: str, response: httpx.Response, faults: list[str]) -> None:
    if not 400 <= response.status_code < 500:
        faults.append(f"{name}: {response.status_code} {response.text[:200]}")
        return
    if response.headers.get("content-type") != "application/problem+json":
        faults.append(f"{name}: no problem, but {response.text[:200]}")
        return
    problem = response.json()
    if BY_CODE[problem["code"]].value.http != response.status_code or "Error" in problem["detail"]:
        faults.append(f"{name}: {problem}")


def test_there_are_enough_of_them() -> None:
    pictures = sum(1 for _ in hostile_images())
    assert pictures >= 200
    assert len({body.name for body in BODIES}) == len(BODIES) >= 120
    assert len(list(messages())) >= 40


def _pictures_over_rest(process: MienProcess) -> list[str]:
    faults: list[str] = []
    with process.mien.client() as client:
        for number, image in enumerate(hostile_images()):
            if number % 2:
                response = client.post("/v1/detect", files={"image": ("x", image.data)})
            else:
                files = {"probe": ("x", GOOD), "reference": ("y", image.data)}
                response = client.post("/v1/verify", files=files)
            _check(image.name, response, faults)
    return faults


def _pictures_over_grpc(process: MienProcess) -> list[str]:
    faults: list[str] = []
    with process.mien.faces() as stub:
        for number, image in enumerate(hostile_images()):
            try:
                if number % 2:
                    stub.Detect(face_pb2.DetectRequest(content=image.data), timeout=30)
                else:
                    picture = face_pb2.Image(content=image.data)
                    other = face_pb2.Image(content=GOOD)
                    request = face_pb2.VerifyRequest(probe=picture, references=[other])
                    stub.Verify(request, timeout=30)
            except grpc.RpcError as error:
                if code_of(error) not in _FAIR_CODES:
                    faults.append(f"{image.name}: {error}")
            else:
                faults.append(f"{image.name}: was accepted")
    return faults


def _bodies(process: MienProcess) -> list[str]:
    faults: list[str] = []
    for body in BODIES:
        connection = http.client.HTTPConnection("127.0.0.1", process.http_port, timeout=60)
        headers = {name: value.encode("latin-1") for name, value in body.headers.items()}
        connection.request("POST", body.path, body.content, headers)
        answer = connection.getresponse()
        response = httpx.Response(answer.status, headers=answer.getheaders(), content=answer.read())
        connection.close()
        _check(body.name, response, faults)
    return faults


def _messages(process: MienProcess) -> list[str]:
    faults: list[str] = []
    with process.mien.channel() as channel:
        for name, method, data in messages():
            call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
                f"/mien.v1.FaceService/{method}"
            )
            try:
                call(data, timeout=30)
            except grpc.RpcError as error:
                if code_of(error) not in _FAIR_CODES:
                    faults.append(f"{method}, {name}: {error}")
            else:
                faults.append(f"{method}, {name}: was accepted")
    return faults


def _end(connection: socket.socket) -> None:
    """Says that nothing more is sent, unless the other end has hung up already."""
    try:
        connection.shutdown(socket.SHUT_WR)
    except OSError as error:
        if error.errno != errno.ENOTCONN:
            raise


def _what_is_no_http(process: MienProcess) -> list[str]:
    head = b"POST /v1/verify HTTP/1.1\r\nHost: x\r\n"
    faults = []
    for sent in (
        b"hello\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
        head + b"Content-Length: -1\r\n\r\n",
        head + b"Content-Length: many\r\n\r\n",
        head + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n",
        head + b"Content-Length: 4000000000\r\n\r\n",
        head + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
        head + b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        head + b"X-Null: \0\r\n\r\n",
        head + b"X-Long: " + b"x" * 1_000_000 + b"\r\n\r\n",
    ):
        with socket.create_connection(("127.0.0.1", process.http_port), timeout=20) as raw:
            with contextlib.suppress(ConnectionError):
                raw.sendall(sent)
                _end(raw)
            answer = b""
            with contextlib.suppress(ConnectionError):
                answer = raw.recv(65536)
        if answer and not answer.startswith(b"HTTP/1.1 4"):
            faults.append(f"{sent[:60]!r}: {answer[:100]!r}")
    return faults


def _callers_who_leave_in_the_middle(process: MienProcess) -> list[str]:
    head = b"POST /v1/verify HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n"
    for number in range(50):
        with socket.create_connection(("127.0.0.1", process.http_port), timeout=20) as raw:
            kind = FORM if number % 2 else JSON
            raw.sendall(head + b"Content-Type: " + kind["content-type"].encode() + b"\r\n\r\n")
            raw.sendall(PARTS)
    return []


@pytest.mark.parametrize(
    "send",
    [
        _pictures_over_rest,
        _pictures_over_grpc,
        _bodies,
        _messages,
        _what_is_no_http,
        _callers_who_leave_in_the_middle,
    ],
)
def test_whatever_is_sent_does_no_harm(
    server: tuple[MienProcess, Path], portraits: Path, send: Callable[[MienProcess], list[str]]
) -> None:
    """Fair answers, no failure in the log, and a process that lives, works and gives memory back.

    What the allocator keeps of a first round, in the arenas of the threads that served it, is not
    counted: memory that leaks is lost in every round.
    """
    process, log = server
    good = {
        "probe": jpeg(portrait(portraits, "obama.jpg")),
        "reference": jpeg(portrait(portraits, "obama2.jpg")),
    }
    with process.mien.client() as client, process.mien.faces() as stub:
        large = encoded(gradient(2000, 1500), "BMP")
        for _ in range(3):  # the allocator keeps what ordinary work has needed once
            client.post("/v1/verify", files={"probe": large, "reference": large})
            picture = face_pb2.Image(content=large)
            stub.Verify(face_pb2.VerifyRequest(probe=picture, references=[picture]))
            assert client.post("/v1/verify", files=good).json()["decision"] == "same"
        logged = log.stat().st_size
        kept: list[int] = []
        while not kept or (kept[-1] > _MEMORY_SLACK and len(kept) < _ROUNDS):
            before = _resident(process)
            faults = send(process)
            assert not faults, "\n".join(faults)
            assert process.process.poll() is None, "the process has ended"
            assert client.post("/v1/verify", files=good).json()["decision"] == "same"
            kept.append(_settled(process, before + _MEMORY_SLACK) - before)
    assert kept[-1] <= _MEMORY_SLACK, f"each round kept {[size >> 20 for size in kept]} MB"
    text = log.read_bytes()[logged:].decode(errors="replace")
    assert "Traceback" not in text, text[-5000:]
    assert PICTURE[:40] not in text
