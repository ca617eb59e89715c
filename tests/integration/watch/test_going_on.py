"""`mien watch` goes on: when the service is away, killed, or says nothing."""

from __future__ import annotations

import asyncio
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from services.rpc.mien.v1 import camera_pb2
from services.watch.stream import CameraStream, open_channel
from tests.integration.harness import MienProcess, call, command_environment, fresh_gallery

_ANSWER_SECONDS = 130.0  # a machine that does much else starts Mien slowly
_SERVICE = camera_pb2.DESCRIPTOR.services_by_name["CameraService"].full_name


class _Watch:
    """`mien watch --json` as a process, and the lines that it prints."""

    def __init__(self, home: Path, *words: object) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "services.cli", "watch", *map(str, words), "--json"],
            env=command_environment(home) | {"PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._lines: queue.Queue[dict[str, Any]] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(json.loads(line))

    def wait_for(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        deadline = time.monotonic() + _ANSWER_SECONDS
        while True:
            line = self._lines.get(timeout=max(deadline - time.monotonic(), 0.01))
            if wanted(line):
                return line

    def interrupted(self) -> dict[str, Any]:
        """The summary that it prints when it is interrupted."""
        self.process.send_signal(signal.SIGINT)
        summary = self.wait_for(lambda line: line["event"] == "summary")
        assert self.process.wait(timeout=30) == 0
        return summary


def _endless(folder: Path, clip: list[bytes]) -> Path:
    """Ten minutes of the clip."""
    files = [folder / f"{number:05}.jpg" for number in range(3000)]
    for number, file in enumerate(files):
        if number < len(clip):
            file.write_bytes(clip[number])
        else:
            os.link(files[number % len(clip)], file)
    return folder


def _appeared(line: dict[str, Any]) -> bool:
    return bool(line["event"] == "appeared")


def test_a_service_that_starts_late_and_is_killed_is_found_again(
    mien_home: Path, tmp_path: Path, clip: list[bytes]
) -> None:
    (tmp_path / "clip").mkdir()
    folder = _endless(tmp_path / "clip", clip)
    with (tmp_path / "log").open("wb") as log:
        gallery: dict[str, Any] = {"GALLERY__URI": fresh_gallery()}
        with MienProcess(mien_home, log, **gallery) as first:
            same: dict[str, Any] = {
                "GATEWAY__HTTP_PORT": first.http_port,
                "GATEWAY__GRPC_PORT": first.grpc_port,
            }
            server = first.mien.grpc_address
            watch = _Watch(mien_home, folder, "--server", server, "--camera", "front")
            try:
                before = watch.wait_for(_appeared)
                first.process.kill()
                first.process.wait(timeout=30)
                with MienProcess(mien_home, log, **(same | gallery)):
                    after = watch.wait_for(_appeared)
                    counts = watch.interrupted()["cameras"]["front"]
            finally:
                watch.process.kill()
                watch.process.wait(timeout=30)
    assert before["camera_id"] == after["camera_id"] == "front"
    assert before["track_id"] != after["track_id"]
    assert counts["reconnections"] >= 1
    assert counts["not_sent"] > 0
    ended = sum(counts[name] for name in ("answered", "refused", "dropped", "lost"))
    assert counts["sent"] >= ended >= counts["sent"] - 4, "all but those under way"
    assert counts["read"] <= counts["sent"] + counts["not_sent"] + 1


class _Peer:
    """A service that misbehaves: it answers so many frames of a stream and then does worse."""

    def __init__(self, answers: int, *, ends: bool) -> None:
        self._answers, self._ends = answers, ends
        self.streams = 0
        self.received = 0

    async def recognize(
        self,
        request_iterator: AsyncIterator[camera_pb2.RecognizeRequest],
        context: Any,
    ) -> AsyncIterator[camera_pb2.RecognizeResponse]:
        self.streams += 1
        answered = 0
        async for request in request_iterator:
            self.received += 1
            if answered < self._answers:
                answered += 1
                report = camera_pb2.FrameReport(frame_id=request.frame.frame_id)
                yield camera_pb2.RecognizeResponse(report=report)
            elif self._ends:
                await context.abort(grpc.StatusCode.INTERNAL, "broken")


async def _send(peer: _Peer, frames: int, *, wait: bool, every: float = 0.0) -> CameraStream:
    """Sends frames to a peer; at most two are under way."""
    server = grpc.aio.server()
    method = grpc.stream_stream_rpc_method_handler(
        peer.recognize,
        camera_pb2.RecognizeRequest.FromString,
        camera_pb2.RecognizeResponse.SerializeToString,
    )
    handler = grpc.method_handlers_generic_handler(_SERVICE, {"Recognize": method})
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with (
            open_channel(f"127.0.0.1:{port}") as channel,
            CameraStream(channel, (), 2, lambda _: None) as stream,
        ):
            for number in range(frames):
                frame = camera_pb2.Frame(camera_id="c", frame_id=str(number))
                await stream.send(frame, wait=wait)
                await asyncio.sleep(every)
            return stream
    finally:
        await server.stop(0)


def test_no_more_frames_are_under_way_than_allowed() -> None:
    peer = _Peer(answers=0, ends=False)
    stream = call(_send(peer, 30, wait=False, every=0.05))
    assert stream.counts.sent == peer.received == 2
    assert stream.counts.not_sent == 28


def test_a_service_that_says_nothing_is_left_and_asked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("services.watch.stream._STALLED_SECONDS", 0.2)
    peer = _Peer(answers=1, ends=False)
    stream = call(_send(peer, 8, wait=True))
    assert peer.streams >= 2
    assert stream.counts.sent == 8, "none of them was given up"
    assert stream.counts.lost >= 2
    assert stream.counts.reconnections >= 1


def test_a_stream_that_breaks_is_made_again_and_what_was_under_way_is_counted() -> None:
    peer = _Peer(answers=2, ends=True)
    stream = call(_send(peer, 30, wait=True))
    counts = stream.counts
    assert peer.streams >= 3
    assert counts.answered >= 4
    assert counts.answered + counts.lost == counts.sent
