"""`FaceService.Detect` over gRPC under several callers, beside OpenCV's detector in a loop."""

from __future__ import annotations

import asyncio
import statistics
import time

import cv2
import grpc
import numpy as np

from models.zoo import Zoo
from services.bench.load import Load, closed_loop
from services.bench.pictures import small_pairs
from services.bench.process import served
from services.bench.result import BenchResult
from services.rpc.mien.v1 import face_pb2, face_pb2_grpc
from services.settings import Settings

_TURN_SECONDS = 2.0


def bench_detect(settings: Settings, seconds: float, concurrency: int) -> BenchResult:
    """Measures both in turns.

    The reference decodes with OpenCV and detects with `cv2.FaceDetectorYN` (the same network) on
    all CPUs, one picture after the other. Mien decodes, detects, and measures pose, quality and
    modality of every face besides.

    Args:
        settings: of the detector.
        seconds: for each of the two.
        concurrency: callers at once.

    Raises:
        FetchError: the pictures cannot be downloaded.
        RuntimeError: Mien does not start.
    """
    zoo = Zoo(settings.home)
    pictures = [data for pair in small_pairs(settings.home) for data in pair]
    detector = cv2.FaceDetectorYN.create(
        str(zoo.weights(zoo.card("yunet"))), "", (0, 0), settings.detection.min_score
    )
    turns = max(2, round(seconds / _TURN_SECONDS))
    service, rates, reference = Load(), [], []
    with served(settings) as (_, port, _):
        loop = asyncio.new_event_loop()
        ask = loop.run_until_complete(_connect(port, pictures))
        loop.run_until_complete(closed_loop(ask, concurrency, 1.0))
        for _ in range(turns):
            reference.append(_opencv(detector, pictures))
            load = loop.run_until_complete(closed_loop(ask, concurrency, _TURN_SECONDS))
            rates.append(load.rate)
            service.add(load)
        loop.run_until_complete(ask.close())
        loop.close()
    return BenchResult(
        value=statistics.median(rates),
        reference=statistics.median(reference),
        unit="pictures/s",
        details={"concurrency": concurrency, "turns": turns, **service.summary()},
    )


class _Asker:
    def __init__(self, channel: grpc.aio.Channel, pictures: list[bytes]) -> None:
        self._channel = channel
        self._detect = face_pb2_grpc.FaceServiceStub(channel).Detect
        self._requests = [face_pb2.DetectRequest(content=data) for data in pictures]

    async def __call__(self, number: int) -> int:
        await self._detect(self._requests[number % len(self._requests)])
        return 0

    async def close(self) -> None:
        await self._channel.close()


async def _connect(port: int, pictures: list[bytes]) -> _Asker:
    options = [("grpc.enable_http_proxy", 0)]
    return _Asker(grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options), pictures)


def _opencv(detector: cv2.FaceDetectorYN, pictures: list[bytes]) -> float:
    """Pictures per second over one turn."""
    count = 0
    start = time.perf_counter()
    while (spent := time.perf_counter() - start) < _TURN_SECONDS:
        data = np.frombuffer(pictures[count % len(pictures)], np.uint8)
        picture = cv2.imdecode(data, cv2.IMREAD_COLOR)
        if picture is None:
            raise ValueError("not a picture")
        detector.setInputSize((picture.shape[1], picture.shape[0]))
        detector.detect(picture)
        count += 1
    return count / spent
