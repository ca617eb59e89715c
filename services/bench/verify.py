"""One `POST /v1/verify` after another, beside the same work in a plain loop in one process."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import simplejpeg

from models.zoo import Zoo
from services.bench.result import BenchResult
from services.demo_pictures import PAIRS, pull_pictures
from services.embedding import load_embedder
from services.gateway.alignment import CropGeometry, align
from services.gateway.server import load_detector
from services.runtime import EngineOptions
from services.settings import Settings

_SIDE = 250
_START_SECONDS = 60.0


def bench_verify(settings: Settings, seconds: float) -> BenchResult:
    """Measures both in turns of a second, so that a noisy machine disturbs them alike.

    The pictures are 250 x 250 cuts of the demo's photographs, saved as JPEG. Mien runs in a process
    of its own and is called over one kept-open connection. The plain loop decodes, detects, aligns
    and embeds with the same detector and engine, and does nothing else.

    Args:
        settings: of the engine.
        seconds: for each of the two.

    Raises:
        FetchError: the demo's photographs cannot be downloaded.
        RuntimeError: Mien does not start or does not answer 200.
    """
    pictures = _small_pictures(pull_pictures(settings.home))
    pairs = [(pictures[pair.probe], pictures[pair.reference]) for pair in PAIRS]
    loop = _PlainLoop(settings)
    with _served(settings) as port:
        service = _Client(port)
        turns = max(2, round(seconds))
        for pair in pairs:  # warm up
            loop.verify(*pair)
            service.verify(*pair)
        plain, served = [], []
        for _ in range(turns):
            plain.append(_rate(loop, pairs))
            served.append(_rate(service, pairs))
        stages = service.stages()
    return BenchResult(
        value=statistics.median(served),
        reference=statistics.median(plain),
        unit="requests/s",
        details={
            "concurrency": 1,
            "turns": turns,
            "value_range": [round(min(served), 2), round(max(served), 2)],
            "reference_range": [round(min(plain), 2), round(max(plain), 2)],
            "median_stage_ms": stages,
            "engine": loop.engine,
            "cpus": len(os.sched_getaffinity(0)),
        },
    )


class _PlainLoop:
    """The same work without a service around it."""

    def __init__(self, settings: Settings) -> None:
        zoo = Zoo(settings.home)
        self._detector = load_detector(zoo, settings)
        options = EngineOptions(
            precision=settings.engine.precision, threads=settings.engine.threads
        )
        self._embedder = load_embedder(
            zoo, settings.embedding.models[0], settings.engine.preference, options
        )
        info = self._embedder.engine.info
        self.engine = f"{info.engine} {info.precision}"

    def verify(self, probe: bytes, reference: bytes) -> None:
        crops = []
        for data in (probe, reference):
            pixels = simplejpeg.decode_jpeg(data, colorspace="RGB")
            faces = self._detector.detect(pixels)
            crops.append(align(pixels, faces[0].points, CropGeometry()))
        first, second = self._embedder.embed(np.stack(crops))
        float(first @ second)


class _Client:
    """A caller that costs next to nothing, so that the service is what is measured."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        self._stages: list[dict[str, float]] = []

    def verify(self, probe: bytes, reference: bytes) -> None:
        boundary = uuid.uuid4().hex
        body = b"".join(
            b'--%b\r\nContent-Disposition: form-data; name="%b"; filename="p.jpg"\r\n\r\n%b\r\n'
            % (boundary.encode(), name, data)
            for name, data in ((b"probe", probe), (b"reference", reference))
        )
        self._connection.request(
            "POST",
            "/v1/verify",
            body + b"--%b--\r\n" % boundary.encode(),
            {"Content-Type": f"multipart/form-data; boundary={boundary}"},
        )
        response = self._connection.getresponse()
        answer = response.read()
        if response.status != http.client.OK:
            raise RuntimeError(f"Mien answered {response.status}")
        self._stages.append(json.loads(answer)["timing_ms"])

    def stages(self) -> dict[str, float]:
        """Median milliseconds by stage; the stages of two pictures run side by side."""
        names = self._stages[-1]
        return {
            name: round(statistics.median(row.get(name, 0.0) for row in self._stages), 3)
            for name in names
        }


def _rate(target: _PlainLoop | _Client, pairs: list[tuple[bytes, bytes]]) -> float:
    """Verifications per second over one second."""
    count = 0
    start = time.perf_counter()
    while (spent := time.perf_counter() - start) < 1.0:
        target.verify(*pairs[count % len(pairs)])
        count += 1
    return count / spent


@contextlib.contextmanager
def _served(settings: Settings) -> Iterator[int]:
    """Runs `mien serve` in a process of its own; yields its REST port."""
    http_port, grpc_port = _free_port(), _free_port()
    environment = os.environ | {
        "MIEN_HOME": str(settings.home),
        "MIEN_GATEWAY__HTTP_PORT": str(http_port),
        "MIEN_GATEWAY__GRPC_PORT": str(grpc_port),
        "MIEN_LOG_LEVEL": "warning",
    }
    process = subprocess.Popen([sys.executable, "-m", "services.cli", "serve"], env=environment)
    try:
        _wait_until_ready(http_port, process)
        yield http_port
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)


def _wait_until_ready(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError("Mien did not start")
        with contextlib.suppress(OSError):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
            connection.request("GET", "/healthz/ready")
            if connection.getresponse().status == http.client.OK:
                return
        time.sleep(0.1)
    raise RuntimeError("Mien did not become ready")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _small_pictures(folder: Path) -> dict[str, bytes]:
    """Each photograph cut to a square around its upper part and scaled to 250 x 250."""
    small = {}
    for path in sorted(folder.glob("*.jpg")):
        pixels = simplejpeg.decode_jpeg(path.read_bytes(), colorspace="RGB")
        side = min(pixels.shape[:2])
        left = (pixels.shape[1] - side) // 2
        square = pixels[:side, left : left + side]
        scaled = cv2.resize(square, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
        small[path.name] = simplejpeg.encode_jpeg(np.ascontiguousarray(scaled), quality=90)
    return small
