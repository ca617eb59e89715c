"""Stopping Mien: work at hand is finished, then the process ends by itself."""

from __future__ import annotations

import contextlib
import signal
import socket
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import grpc
import httpx
import pytest

from services.rpc.mien.v1 import face_pb2
from tests.hostile import encoded, gradient
from tests.integration.harness import MienProcess
from tests.integration.pictures import jpeg, portrait

_DRAIN = 10
_REFERENCES = 24


@pytest.fixture(scope="module")
def portrait_file(portraits: Path) -> bytes:
    return jpeg(portrait(portraits, "obama.jpg", 800))


def _over_rest(server: MienProcess, picture: bytes) -> int:
    given = [("probe", ("p", picture))] + [("reference", ("r", picture))] * _REFERENCES
    with server.mien.client() as client:
        answer = client.post("/v1/verify", files=given)
    return len(answer.json()["results"]) if answer.status_code == 200 else 0


def _over_grpc(server: MienProcess, picture: bytes) -> int:
    image = face_pb2.Image(content=picture)
    request = face_pb2.VerifyRequest(probe=image, references=[image] * _REFERENCES)
    with server.mien.faces() as stub:
        return len(stub.Verify(request, timeout=30).results)


def _stop_while_at_work(
    server: MienProcess, work: Callable[[], int], number: signal.Signals
) -> tuple[Future[int], float]:
    """Signals the server while a request is in flight; the request, and seconds until the exit."""
    with ThreadPoolExecutor(1) as pool, server.mien.client() as client:
        ours = 'mien_stage_seconds_count{stage="decode"}'
        before = _metric(client, ours)
        asked = pool.submit(work)
        deadline = time.monotonic() + 20
        while _metric(client, ours) == before:  # its first picture has been worked on
            assert time.monotonic() < deadline
        assert not asked.done(), "the request was over too soon to tell anything"
        began = time.monotonic()
        server.process.send_signal(number)
        assert server.process.wait(timeout=_DRAIN + 10) == 0
        return asked, time.monotonic() - began


def _metric(client: httpx.Client, name: str) -> float:
    for line in client.get("/metrics").text.splitlines():
        if line.startswith(name):
            return float(line.rpartition(" ")[2])
    return 0.0


@pytest.mark.parametrize(
    ("interface", "number"),
    [
        (_over_rest, signal.SIGTERM),
        (_over_grpc, signal.SIGTERM),
        (_over_rest, signal.SIGINT),
    ],
)
def test_a_request_in_flight_is_answered(
    mien_home: Path,
    tmp_path: Path,
    portrait_file: bytes,
    interface: Callable[[MienProcess, bytes], int],
    number: signal.Signals,
) -> None:
    path = tmp_path / "log"
    with path.open("wb") as log, MienProcess(mien_home, log) as server:
        server.wait_until_ready()
        asked, seconds = _stop_while_at_work(
            server, lambda: interface(server, portrait_file), number
        )
        assert asked.result() == _REFERENCES
        assert seconds < _DRAIN
    text = path.read_text()
    assert '"event": "draining"' in text
    assert '"event": "stopped"' in text
    assert "Traceback" not in text


def test_an_idle_server_stops_at_once_and_lets_its_ports_go(
    mien_home: Path, tmp_path: Path
) -> None:
    with (tmp_path / "log").open("wb") as log, MienProcess(mien_home, log) as server:
        server.wait_until_ready()
        with server.mien.client() as client:
            client.get("/healthz/live")  # its connection stays open
            began = time.monotonic()
            assert server.stop() == 0
            assert time.monotonic() - began < 5
        for port in (server.http_port, server.grpc_port):
            with pytest.raises(ConnectionError), contextlib.closing(socket.socket()) as probe:
                probe.connect(("127.0.0.1", port))


def test_work_that_takes_longer_than_the_drain_is_cut_off(mien_home: Path, tmp_path: Path) -> None:
    picture = encoded(gradient(1800, 1400), "JPEG")
    with (
        (tmp_path / "log").open("wb") as log,
        MienProcess(mien_home, log, GATEWAY__DRAIN_SECONDS=0) as server,
    ):
        server.wait_until_ready()

        def endless() -> int:
            try:
                return _over_grpc(server, picture)
            except grpc.RpcError:
                return -1

        asked, seconds = _stop_while_at_work(server, endless, signal.SIGTERM)
        assert asked.result() == -1
        assert seconds < 5
