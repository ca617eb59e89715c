"""Starts Mien for tests: in a thread of this process, or as a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Self, TypeVar, cast

import grpc
import httpx
import numpy as np
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from numpy.typing import NDArray

from models.zoo import Zoo
from services import serve
from services.embedding import Embedder, EmbeddingServer, Frontalizer
from services.rpc.mien.v1 import face_pb2_grpc, gallery_pb2_grpc
from services.runtime import EngineError
from services.runtime.engine import Arrays
from services.runtime.weightless_engine import WeightlessEngine
from services.settings import EmbeddingSettings, EngineSettings, Settings

START_SECONDS = 60.0
NO_PROXY = [("grpc.enable_http_proxy", 0)]
_Result = TypeVar("_Result")


@functools.cache
def background_loop() -> asyncio.AbstractEventLoop:
    """The event loop, in a thread of its own, of all servers that tests start in this process.

    There is one only: grpc.aio does not like several.
    """
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True, name="servers").start()
    return loop


def in_background(work: Coroutine[Any, Any, _Result]) -> Future[_Result]:
    """Starts a coroutine there."""
    return asyncio.run_coroutine_threadsafe(work, background_loop())


def call(work: Coroutine[Any, Any, _Result]) -> _Result:
    """Runs a coroutine there and waits for its result."""
    return in_background(work).result(timeout=START_SECONDS)


class LoopThread:
    """The servers' loop for a block of code."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to do: the loop goes on."""

    def call(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        """Runs a coroutine there and waits for its result."""
        return call(work)


@dataclass(frozen=True)
class Mien:
    """A running Mien."""

    rest_url: str
    grpc_address: str

    def client(self) -> httpx.Client:
        """A REST client for it."""
        return httpx.Client(base_url=self.rest_url, trust_env=False, timeout=60)

    @contextlib.contextmanager
    def channel(self) -> Iterator[grpc.Channel]:
        """A gRPC channel to it, without a limit on what may be sent."""
        options = [*NO_PROXY, ("grpc.max_send_message_length", -1)]
        with grpc.insecure_channel(self.grpc_address, options=options) as channel:
            yield channel

    @contextlib.contextmanager
    def gallery(self) -> Iterator[gallery_pb2_grpc.GalleryServiceStub]:
        """A stub of its gallery service."""
        with self.channel() as channel:
            yield gallery_pb2_grpc.GalleryServiceStub(channel)

    @contextlib.contextmanager
    def faces(self) -> Iterator[face_pb2_grpc.FaceServiceStub]:
        """A stub of its face service."""
        with self.channel() as channel:
            yield face_pb2_grpc.FaceServiceStub(channel)


@contextlib.contextmanager
def mien_in_thread(settings: Settings, service: serve.Service = "all") -> Iterator[Mien]:
    """Runs services in a background thread, on the ports that the settings name."""
    started: Future[Mien] = Future()
    stopping = asyncio.Event()

    async def live() -> None:
        async with serve.running(settings, service) as running:
            started.set_result(Mien(str(running.rest_url), str(running.grpc_address)))
            await stopping.wait()

    life = in_background(live())
    either: list[Future[Any]] = [started, life]
    wait(either, timeout=START_SECONDS, return_when=FIRST_COMPLETED)
    if life.done():
        life.result()
    try:
        yield started.result(timeout=0)
    finally:
        background_loop().call_soon_threadsafe(stopping.set)
        life.result(timeout=START_SECONDS)


_GALLERIES = tempfile.TemporaryDirectory(prefix="mien-galleries-")


def fresh_gallery() -> str:
    """Address of an embedded gallery that does not exist yet."""
    return f"sqlite:{_GALLERIES.name}/{uuid.uuid4().hex}.sqlite3"


def settings_on_free_ports(home: Path, gallery: str = "", **gateway: Any) -> Settings:
    """Settings for a Mien beside others, with a gallery of its own if none is named.

    ``gateway`` overrides that group.
    """
    own = {"http_port": 0, "grpc_port": 0, "workers": 2, **gateway}
    return Settings.model_validate(
        {
            "home": home,
            "gateway": own,
            "engine": {"preference": "openvino"},
            "gallery": {"uri": gallery or fresh_gallery()},
        }
    )


class StuckEngine(WeightlessEngine):
    """Does not answer before it is released; a weightless engine otherwise."""

    def __init__(self) -> None:
        super().__init__(dimension=128)
        self.entered = threading.Event()
        self.released = threading.Event()

    def infer(self, inputs: Mapping[str, NDArray[np.float32]]) -> Arrays:
        self.entered.set()
        if not self.released.wait(START_SECONDS):
            raise EngineError("it was never released")
        return super().infer(inputs)


def weightless_embedder(home: Path, engine: WeightlessEngine | None = None) -> Embedder:
    """SFace's card with an engine that needs no weights."""
    return Embedder(Zoo(home).embedder("sface"), engine or WeightlessEngine(dimension=128))


def weightless_loader(
    engine: WeightlessEngine | None = None,
) -> Callable[[Zoo, str, EngineSettings], Embedder]:
    """What takes the place of `load_configured` in a Mien without weights."""

    def load(zoo: Zoo, reference: str, _: EngineSettings) -> Embedder:
        return Embedder(zoo.embedder(reference), engine or WeightlessEngine(dimension=128))

    return load


@contextlib.contextmanager
def embedding_in_thread(
    embedder: Embedder, port: int = 0, frontalizers: Sequence[Frontalizer] = (), **limits: Any
) -> Iterator[str]:
    """Runs an embedding service in a background thread; yields its address."""
    settings = EmbeddingSettings(**limits)

    async def start() -> EmbeddingServer:
        server = EmbeddingServer([embedder], f"127.0.0.1:{port}", settings, frontalizers)
        await server.start()
        return server

    server = call(start())
    try:
        yield server.address
    finally:
        call(server.stop(0))


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def command_environment(home: Path, **settings: object) -> dict[str, str]:
    """An environment with this home and these settings (without their prefix), and no others."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MIEN_")}
    given = {f"MIEN_{name}": str(value) for name, value in settings.items()}
    return {**kept, "MIEN_HOME": str(home), **given}


def run_mien(
    home: Path, *arguments: object, timeout: Any = 120, **settings: object
) -> subprocess.CompletedProcess[str]:
    """Runs the command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "services.cli", *map(str, arguments)],
        env=command_environment(home, **settings),
        capture_output=True,
        text=True,
        errors="replace",
        timeout=timeout,
        check=False,
    )


class MienProcess:
    """`mien serve` as a process of its own."""

    def __init__(
        self, home: Path, log: IO[bytes], service: str = "all", **settings: object
    ) -> None:
        self.http_port, self.grpc_port, self.embedding_port = free_port(), free_port(), free_port()
        ports = {
            "GATEWAY__HTTP_PORT": self.http_port,
            "GATEWAY__GRPC_PORT": self.grpc_port,
            "EMBEDDING__PORT": self.embedding_port,
            "EMBEDDING__HTTP_PORT": free_port(),
            "GALLERY__URI": fresh_gallery(),
        }
        self.mien = Mien(f"http://127.0.0.1:{self.http_port}", f"127.0.0.1:{self.grpc_port}")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "services.cli", "serve", service],
            env=command_environment(home, **(ports | settings)),
            stdout=log,
            stderr=log,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(timeout=START_SECONDS)

    def wait_until_ready(self) -> Self:
        """Waits for `/healthz/ready`."""
        with self.mien.client() as client:
            self._wait(lambda: client.get("/healthz/ready").status_code == httpx.codes.OK)
        return self

    def stop(self) -> int:
        """Sends SIGTERM and returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=START_SECONDS)

    def _wait(self, ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"the process ended with {self.process.returncode}")
            with contextlib.suppress(httpx.TransportError):
                if ready():
                    return
            time.sleep(0.1)
        raise RuntimeError("the process did not become ready")


def code_of(error: grpc.RpcError) -> grpc.StatusCode:
    """The status of a failed call."""
    return cast("grpc.Call", error).code()


@dataclass(frozen=True)
class RichError:
    """A gRPC error, unpacked."""

    code: grpc.StatusCode
    message: str
    reason: str
    fields: list[str]
    retry_seconds: float | None
    metadata: dict[str, str]


def rich_error(error: grpc.RpcError) -> RichError:
    """Unpacks ErrorInfo, BadRequest and RetryInfo."""
    status = rpc_status.from_call(cast("grpc.Call", error))
    assert status is not None, f"no rich status: {error}"
    info = error_details_pb2.ErrorInfo()
    bad = error_details_pb2.BadRequest()
    retry = error_details_pb2.RetryInfo()
    retry_seconds = None
    for detail in status.details:
        detail.Unpack(info)
        detail.Unpack(bad)
        if detail.Unpack(retry):
            retry_seconds = retry.retry_delay.ToTimedelta().total_seconds()
    return RichError(
        code_of(error),
        status.message,
        info.reason,
        [violation.field for violation in bad.field_violations],
        retry_seconds,
        dict(info.metadata),
    )
