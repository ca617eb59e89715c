"""Serves small models over the Open Inference Protocol, on both interfaces, for tests."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
import uvicorn
from numpy.typing import NDArray

from models.zoo import EmbedderCard
from services.embedding import Embedder
from services.embedding.inference_models import served_models
from services.embedding.queued import QueuedEmbedder
from services.errors import Errors, MienError
from services.inference_protocol import (
    SERVICE_NAME,
    ServedArrays,
    ServedModel,
    ServedModels,
    ServedTensor,
    add_inference_service,
    inference_app,
)
from services.inference_protocol.datatypes import DATATYPES
from services.rpc.server import RpcServer
from services.runtime import EngineOptions, load_engine
from services.runtime.batcher import BatcherOptions
from tests.tiny_networks import SIDE, write_network

_Result = TypeVar("_Result")
_SECONDS = 30.0
DIMENSION = 8
MAX_ROWS = 16
MAX_BODY = 1_000_000
NO_PROXY = [("grpc.enable_http_proxy", 0)]
MIRRORED: dict[str, NDArray[Any]] = {
    "BOOL": np.array([[True, False, True]]),
    "UINT8": np.array([[0, 1, 255]], np.uint8),
    "UINT16": np.array([[0, 1, 65535]], np.uint16),
    "UINT32": np.array([[0, 1, 2**32 - 1]], np.uint32),
    "UINT64": np.array([[0, 1, 2**64 - 1]], np.uint64),
    "INT8": np.array([[-128, 0, 127]], np.int8),
    "INT16": np.array([[-32768, 0, 32767]], np.int16),
    "INT32": np.array([[-(2**31), 0, 2**31 - 1]], np.int32),
    "INT64": np.array([[-(2**63), 0, 2**63 - 1]], np.int64),
    "FP16": np.array([[0.5, -1.0, 65504.0]], np.float16),
    "FP32": np.array([[0.1, -1.0, 3e38]], np.float32),
    "FP64": np.array([[0.1, -1.0, 1e300]], np.float64),
    "BYTES": np.array([["café".encode(), b"", b"two\nlines"]], object),
}


@dataclass(frozen=True)
class Server:
    grpc: str
    http: str


class Loop:
    """An event loop in a thread of its own."""

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_SECONDS)
        self._loop.close()

    def call(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        """Runs a coroutine there and waits for its result."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_SECONDS)


def unused_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def tiny_card(width: int, dimension: int, **output: Any) -> EmbedderCard:
    return EmbedderCard.model_validate(
        {
            "name": "tiny",
            "version": "3",
            "weights": {"sha256": "0" * 64, "size_bytes": 1},
            "input": {"width": width, "height": width, "pixel_range": 1, "mean": 0.5, "std": 0.5},
            "output": {"dimension": dimension, **output},
        }
    )


def mirror() -> ServedModel:
    async def infer(arrays: ServedArrays) -> ServedArrays:
        return {name.removeprefix("in_"): array for name, array in arrays.items()}

    return ServedModel(
        name="mirror",
        version="1",
        inputs=tuple(ServedTensor(f"in_{name}", name, (1, -1)) for name in DATATYPES),
        outputs=tuple(ServedTensor(name, name, (1, -1)) for name in DATATYPES),
        infer=infer,
    )


def failing(name: str, error: Exception) -> ServedModel:
    async def infer(_: ServedArrays) -> ServedArrays:
        raise error

    return ServedModel(
        name=name,
        version="1",
        inputs=(ServedTensor("data", "FP32", (-1, 2)),),
        outputs=(ServedTensor("out", "FP32", (-1, 2)),),
        infer=infer,
        max_batch=4,
    )


@contextlib.contextmanager
def serving(build: Callable[[], list[ServedModel]]) -> Iterator[Server]:
    """Serves models on both interfaces; ``build`` is called where the event loop runs."""
    port = unused_port()

    async def start() -> tuple[RpcServer, list[ServedModel], uvicorn.Server, asyncio.Task[None]]:
        models = build()
        rpc = RpcServer("127.0.0.1:0", [SERVICE_NAME], 64 * 1024 * 1024)
        add_inference_service(ServedModels(models), rpc.server)
        await rpc.start()
        await rpc.ready()
        app = inference_app(ServedModels(models), MAX_BODY)
        web = uvicorn.Server(uvicorn.Config(app, port=port, log_config=None, lifespan="off"))
        task = asyncio.create_task(web.serve())
        while not web.started:  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.01)
        return rpc, models, web, task

    async def stop(
        rpc: RpcServer, models: list[ServedModel], web: uvicorn.Server, task: asyncio.Task[None]
    ) -> None:
        web.should_exit = True
        await task
        await rpc.stop(0)
        for model in models:
            await model.close()

    with Loop() as thread:
        running = thread.call(start())
        try:
            yield Server(running[0].address, f"http://127.0.0.1:{port}")
        finally:
            thread.call(stop(*running))


@contextlib.contextmanager
def tiny_server(folder: Path) -> Iterator[Server]:
    """A tiny embedder, a mirror of every datatype, and models that fail."""
    path = write_network(folder / "model.onnx", DIMENSION)
    embedder = Embedder(
        tiny_card(SIDE, DIMENSION), load_engine(path, "onnxruntime", EngineOptions(threads=1))
    )

    def build() -> list[ServedModel]:
        queued = QueuedEmbedder(embedder, BatcherOptions())
        busy = MienError(Errors.OVERLOADED, "The queue is full.", retry_after=1.5)
        return [
            *served_models([queued], BatcherOptions(), MAX_ROWS),
            mirror(),
            failing("busy", busy),
            failing("broken", RuntimeError("a secret")),
            replace(failing("loading", busy), ready=lambda: False),
        ]

    with serving(build) as running:
        yield running


@contextlib.contextmanager
def weighing_server(folder: Path) -> Iterator[Server]:
    """A tiny embedder with learned fusion weights, which come first in its network."""
    path = write_network(folder / "model.onnx", DIMENSION, fusion="omega", fusion_first=True)
    card = tiny_card(SIDE, DIMENSION, weight="omega")
    embedder = Embedder(card, load_engine(path, "onnxruntime", EngineOptions(threads=1)))

    def build() -> list[ServedModel]:
        queued = QueuedEmbedder(embedder, BatcherOptions())
        return served_models([queued], BatcherOptions(), MAX_ROWS)

    with serving(build) as running:
        yield running


def random_batch(rows: int, side: int = SIDE) -> NDArray[np.float32]:
    values = np.random.default_rng(rows).standard_normal((rows, 3, side, side))
    return values.astype(np.float32)
