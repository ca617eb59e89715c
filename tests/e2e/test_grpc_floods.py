"""gRPC connections and streams of bad callers, while others go on as usual."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from services.rpc.mien.v1 import (
    camera_pb2,
    camera_pb2_grpc,
    face_pb2,
    gallery_pb2,
    gallery_pb2_grpc,
)
from tests.e2e.floods import HEADER_SECONDS, PICTURE, answer_of, crowd, dial, resident, send
from tests.e2e.floods import served_meanwhile as served_over_rest
from tests.integration.harness import NO_PROXY, MienProcess

_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GO_AWAY = 0, 1, 3, 4, 6, 7
_END_OF_HEADERS = 4
_MEMORY = 250 * 1024 * 1024


def frame(kind: int, body: bytes = b"", flags: int = 0, stream: int = 0) -> bytes:
    """An HTTP/2 frame (RFC 9113, 4.1)."""
    return struct.pack(">I", len(body))[1:] + struct.pack(">BBI", kind, flags, stream) + body


def head_of_call() -> bytes:
    """Headers of a call, as HPACK literals that need no table."""

    def literal(name: bytes, value: bytes) -> bytes:
        return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value

    return b"".join(
        literal(name, value)
        for name, value in (
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":path", b"/mien.v1.FaceService/Detect"),
            (b":authority", b"x"),
            (b"content-type", b"application/grpc"),
            (b"te", b"trailers"),
        )
    )


@contextlib.contextmanager
def served_meanwhile(mien: MienProcess, attack: str) -> Iterator[None]:
    """Over REST all the time, and over gRPC afterwards."""
    with served_over_rest(mien, attack):
        yield
    with mien.mien.faces() as stub:
        stub.Detect(face_pb2.DetectRequest(content=PICTURE), timeout=10)


@contextlib.contextmanager
def spoken_to(mien: MienProcess) -> Iterator[socket.socket]:
    """A connection that has said hello as HTTP/2 does."""
    with dial(mien.grpc_port) as one:
        one.sendall(_HELLO + frame(_SETTINGS))
        yield one


def kinds_in(data: bytes) -> list[int]:
    """The kinds of the frames that were received."""
    kinds = []
    while len(data) >= 9:
        length = int.from_bytes(data[:3], "big")
        kinds.append(data[3])
        data = data[9 + length :]
    return kinds


@pytest.mark.parametrize("first", [b"", _HELLO[:10], b"GET / HTTP/1.1\r\n"])
def test_connections_that_never_say_hello_are_ended(flooded: MienProcess, first: bytes) -> None:
    with (
        served_meanwhile(flooded, "no hello"),
        crowd(flooded.grpc_port, 300, first) as silent,
    ):
        time.sleep(HEADER_SECONDS + 1)
        assert all(answer_of(one, 3) is not None for one in silent)


def test_no_more_connections_than_the_limit_are_let_in(flooded: MienProcess) -> None:
    hello = _HELLO + frame(_SETTINGS)
    with (
        served_over_rest(flooded, "2000 connections"),
        crowd(flooded.grpc_port, 2000, hello) as many,
    ):
        time.sleep(1)
        turned_away = sum(answer_of(one, 0) is not None for one in many)
        assert turned_away >= 900
    with flooded.mien.faces() as stub:
        request = face_pb2.DetectRequest(content=PICTURE)
        stub.Detect(request, timeout=20, wait_for_ready=True)


def test_a_flood_of_pings_is_told_to_calm_down(flooded: MienProcess) -> None:
    with served_meanwhile(flooded, "pings"), spoken_to(flooded) as one:
        send(one, frame(_PING, bytes(8)) * 20_000)
        answer = answer_of(one, 10)
        assert answer is not None, "the connection is still open"
        assert b"too_many_pings" in answer or _GO_AWAY in kinds_in(answer)


@pytest.mark.parametrize(
    "sent",
    [
        frame(_SETTINGS) * 50_000,
        b"".join(
            frame(_HEADERS, head_of_call(), _END_OF_HEADERS, stream)
            + frame(_RESET, struct.pack(">I", 8), 0, stream)
            for stream in range(1, 20_001, 2)
        ),
        frame(_HEADERS, head_of_call(), 0, 1) + frame(9, b"\0\1a\1b" * 3000, 0, 1) * 30,
        frame(_DATA, bytes(16_000), 0, 7) * 500,
    ],
    ids=["settings", "calls that are reset at once", "headers without end", "data of no call"],
)
def test_floods_of_frames_cost_little(flooded: MienProcess, sent: bytes) -> None:
    before = resident(flooded)
    with served_meanwhile(flooded, "frames"), contextlib.ExitStack() as stack:
        for _ in range(5):
            send(stack.enter_context(spoken_to(flooded)), sent)
        time.sleep(1)
    assert resident(flooded) - before < _MEMORY


def test_hundreds_of_streams_on_one_connection_leave_room_for_others(flooded: MienProcess) -> None:
    def forever() -> Iterator[gallery_pb2.BulkEnrolRequest]:
        while True:
            time.sleep(60)
            yield gallery_pb2.BulkEnrolRequest()

    with served_meanwhile(flooded, "300 streams"), flooded.mien.gallery() as stub:
        streams = [stub.BulkEnrol(forever()) for _ in range(300)]
        time.sleep(2)
        for one in streams:
            one.cancel()


def test_bulk_streams_that_never_read_are_held_back(flooded: MienProcess) -> None:
    sent = 0

    def rows() -> Iterator[gallery_pb2.BulkEnrolRequest]:
        nonlocal sent
        row = gallery_pb2.EnrolRequest(subject_id="x" * 128, name="n" * 10_000)
        while True:
            sent += 1
            yield gallery_pb2.BulkEnrolRequest(enrolment=row)

    before = resident(flooded)
    with served_meanwhile(flooded, "rows whose answers nobody reads"):
        options: list[Any] = [*NO_PROXY, ("grpc.http2.bdp_probe", 0)]  # takes 64 KB unread
        with grpc.insecure_channel(flooded.mien.grpc_address, options=options) as channel:
            stream = gallery_pb2_grpc.GalleryServiceStub(channel).BulkEnrol(rows())
            time.sleep(3)
            first = sent
            time.sleep(1)
            stream.cancel()
        assert 0 < sent == first
    assert resident(flooded) - before < _MEMORY


def test_cameras_that_never_read_are_held_back(flooded: MienProcess) -> None:
    def frames(name: str) -> Iterator[camera_pb2.RecognizeRequest]:
        for index in range(100_000):
            one = camera_pb2.Frame(camera_id=name, frame_id=str(index), content=PICTURE)
            yield camera_pb2.RecognizeRequest(frame=one)

    before = resident(flooded)
    options: list[Any] = [*NO_PROXY]
    with (
        served_meanwhile(flooded, "frames whose answers nobody reads"),
        grpc.insecure_channel(flooded.mien.grpc_address, options=options) as channel,
    ):
        stub = camera_pb2_grpc.CameraServiceStub(channel)
        streams = [stub.Recognize(frames(f"deaf-{index}")) for index in range(4)]
        time.sleep(3)
        for one in streams:
            one.cancel()
    assert resident(flooded) - before < _MEMORY
