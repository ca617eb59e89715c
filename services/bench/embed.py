"""The embedding service over gRPC, beside the engine that it runs on, without any service."""

from __future__ import annotations

import asyncio
import statistics
import time

import grpc
import numpy as np
import openvino
from numpy.typing import NDArray

from models.zoo import Zoo
from services.bench.load import Load, closed_loop
from services.bench.pictures import aligned_crops
from services.bench.process import served
from services.bench.result import BenchResult
from services.embedding.embedder import prepare_crops
from services.gateway.server import load_detector
from services.rpc.mien.v1 import embedding_pb2, embedding_pb2_grpc
from services.settings import Settings

_TURN_SECONDS = 2.0
_CROPS = 64
_HINTS = {"fp32": "f32", "bf16": "bf16"}  # OpenVINO's names


def bench_embed(settings: Settings, seconds: float, concurrency: int) -> BenchResult:
    """Measures both in turns, so that a noisy machine disturbs them alike.

    The service runs in a process of its own and gets one crop a call from so many callers in this
    process. The reference is OpenVINO's own asynchronous queue on the same model, crops, precision
    and CPUs, one crop a request, its input prepared beforehand. Both serve the same crops.

    Args:
        settings: of the engine.
        seconds: for each of the two.
        concurrency: callers at once.

    Raises:
        FetchError: the pictures cannot be downloaded.
        RuntimeError: the service does not start.
    """
    zoo = Zoo(settings.home)
    crops = aligned_crops(load_detector(zoo, settings), settings.home, _CROPS)
    turns = max(2, round(seconds / _TURN_SECONDS))
    service, reference = Load(), []
    alone, alone_raw = Load(), []
    with served(settings, "embedding") as (_, port, _):
        ask = _Service(port, crops)
        precision = ask.precision()
        raw = _RawQueue(settings, zoo, crops, precision)
        ask.turn(concurrency, 1.0)
        for _ in range(turns):
            reference.append(raw.turn(_TURN_SECONDS))
            service.add(ask.turn(concurrency, _TURN_SECONDS))
        for _ in range(2):
            alone_raw.append(raw.one_at_a_time(_TURN_SECONDS / 2))
            alone.add(ask.turn(1, _TURN_SECONDS / 2))
        ask.close()
    added = alone.percentile_ms(50) - statistics.median(alone_raw) * 1e3
    return BenchResult(
        value=service.rate,
        reference=statistics.median(reference),
        unit="faces/s",
        details={
            "concurrency": concurrency,
            "turns": turns,
            **service.summary(),
            "reference_range": [round(min(reference), 1), round(max(reference), 1)],
            "alone_p50_ms": round(alone.percentile_ms(50), 3),
            "alone_raw_ms": round(statistics.median(alone_raw) * 1e3, 3),
            "added_at_concurrency_1_ms": round(added, 3),
            "engine": f"openvino {precision}",
        },
    )


class _RawQueue:
    """OpenVINO as its own documentation uses it for throughput."""

    def __init__(
        self, settings: Settings, zoo: Zoo, crops: NDArray[np.uint8], precision: str
    ) -> None:
        card = zoo.embedder(settings.embedding.models[0])
        core = openvino.Core()
        model = core.read_model(zoo.weights(card))
        size = (card.input.height, card.input.width)
        model.reshape([1, 3, *size])
        config = {
            "PERFORMANCE_HINT": "THROUGHPUT",
            "INFERENCE_PRECISION_HINT": _HINTS[precision],
        }
        self._compiled = core.compile_model(model, "CPU", config)
        self._queue = openvino.AsyncInferQueue(self._compiled)
        prepared = prepare_crops(crops, card.input)
        self._inputs = [np.ascontiguousarray(prepared[i : i + 1]) for i in range(len(prepared))]

    def turn(self, seconds: float) -> float:
        """Faces per second with the queue kept full."""
        count = 0
        start = time.perf_counter()
        while time.perf_counter() - start < seconds:
            for one in self._inputs:
                self._queue.start_async({0: one}, share_inputs=True)
            count += len(self._inputs)
        self._queue.wait_all()
        return count / (time.perf_counter() - start)

    def one_at_a_time(self, seconds: float) -> float:
        """Median seconds of one inference with nothing beside it."""
        request = self._compiled.create_infer_request()
        spent: list[float] = []
        start = time.perf_counter()
        while time.perf_counter() - start < seconds:
            began = time.perf_counter()
            request.infer([self._inputs[len(spent) % len(self._inputs)]], share_inputs=True)
            spent.append(time.perf_counter() - began)
        return statistics.median(spent)


class _Service:
    """Callers of the embedding service, one crop a call."""

    def __init__(self, port: int, crops: NDArray[np.uint8]) -> None:
        self._loop = asyncio.new_event_loop()
        self._requests = [embedding_pb2.EmbedRequest(crops=[crop.tobytes()]) for crop in crops]
        self._channel = self._loop.run_until_complete(_connect(port))
        self._embed = embedding_pb2_grpc.EmbeddingServiceStub(self._channel).Embed

    def precision(self) -> str:
        """What the service runs its default model in."""
        stub = embedding_pb2_grpc.EmbeddingServiceStub(self._channel)

        async def ask() -> str:
            answer = await stub.ListModels(embedding_pb2.ListModelsRequest(), wait_for_ready=True)
            (default,) = (model for model in answer.models if model.is_default)
            return default.precision

        return self._loop.run_until_complete(ask())

    def turn(self, concurrency: int, seconds: float) -> Load:
        return self._loop.run_until_complete(closed_loop(self._call, concurrency, seconds))

    def close(self) -> None:
        self._loop.run_until_complete(self._channel.close())
        self._loop.close()

    async def _call(self, number: int) -> int:
        await self._embed(self._requests[number % len(self._requests)])
        return 0


async def _connect(port: int) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.enable_http_proxy", 0)])
