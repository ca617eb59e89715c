"""A whole Mien of separate processes on this machine's loopback, each on ports of its own."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import importlib.util
import shutil
import socket
import sys
from pathlib import Path

from services.bench.chaos.disk import SmallDisk
from services.bench.chaos.half_open import HalfOpenProxy
from services.bench.chaos.program import Program
from services.bench.process import free_port
from services.settings import Settings

TIMEOUT_SECONDS = 10.0
"""Longest time for one request here; a third of the usual, so that a test ends."""

_MILVUS_SECONDS = "3"  # less than a request's time, as usual
_LIBRARIES = (Path("/usr/lib"), Path("/usr/local/lib"))
_FAKETIME = "libfaketime.so.1"  # that for threads waits for ever in what they fork


class House:
    """Gateway, embedding, enhancement and mapping service, Redis, and Milvus Lite as a server.

    Between gateway and embedding service there is a way that can be cut.

    Args:
        settings: of this process; home and engine are handed on.
        folder: of the gallery and of logs; empty.
        embedders: to be served; the first is the default.
        gallery_model: embedder that the gallery is to live by.
    """

    def __init__(
        self, settings: Settings, folder: Path, embedders: tuple[str, ...], gallery_model: str
    ) -> None:
        self._folder, self._home = folder, settings.home
        (folder / "disk").mkdir()
        (folder / "logs").mkdir()
        self.disk = SmallDisk(folder / "disk")
        self.database = folder / "disk" / "gallery.sqlite3"
        self.clock = folder / "clock"
        self.ports = {
            name: (free_port(), free_port())  # REST or metrics, and gRPC
            for name in ("gateway", "embedding", "enhancement", "mapping")
        }
        self._redis_port, self._milvus_port = free_port(), free_port()
        self.proxy = HalfOpenProxy(self.ports["embedding"][1])
        self._models = {
            "MIEN_EMBEDDING__MODELS": ",".join(embedders),
            "MIEN_ENROLMENT__MODEL": gallery_model,
        }
        self.programs: dict[str, Program] = {}

    @property
    def url(self) -> str:
        """The gateway's REST."""
        return f"http://127.0.0.1:{self.ports['gateway'][0]}"

    @property
    def gateway(self) -> Program:
        """The gateway's process."""
        return self.programs["gateway"]

    async def start(self) -> None:
        """Starts all of it, save Milvus.

        Raises:
            RuntimeError: a program does not become ready.
        """
        await self.proxy.start()
        for name in ("embedding", "enhancement", "mapping"):
            self.programs[name] = self._service(name, {})
        if shutil.which("redis-server") is not None:
            self.programs["redis"] = self._redis()
        await asyncio.gather(*(asyncio.to_thread(one.start) for one in self.programs.values()))
        self.programs["gateway"] = self._service("gateway", self._ways())
        await asyncio.to_thread(self.gateway.start)

    async def move_to_milvus(self) -> None:
        """Starts Milvus Lite, and the gateway anew with a gallery there.

        Raises:
            RuntimeError: a program does not become ready.
        """
        await asyncio.to_thread(self.gateway.terminate)
        self.programs["milvus"] = milvus_lite(
            self._milvus_port, self._folder / "milvus", self._folder / "logs"
        )
        await asyncio.to_thread(self.programs["milvus"].start)
        self.gateway.environment["MIEN_GALLERY__URI"] = f"http://127.0.0.1:{self._milvus_port}"
        self.gateway.environment["MIEN_GALLERY__TIMEOUT_SECONDS"] = _MILVUS_SECONDS
        self.gateway.environment["MIEN_AUDIT__FOLDER"] = str(self._folder / "audit")
        await asyncio.to_thread(self.gateway.start)

    async def stop(self) -> None:
        """Ends what still runs."""
        for one in self.programs.values():
            await asyncio.to_thread(one.kill)
        await self.proxy.close()
        self.disk.close()

    def _ways(self) -> dict[str, str]:
        redis = f"redis://127.0.0.1:{self._redis_port}/0" if "redis" in self.programs else ""
        ports = self.ports
        return {
            "MIEN_GATEWAY__EMBEDDING_ADDRESS": f"127.0.0.1:{self.proxy.port}",
            "MIEN_GATEWAY__ENHANCEMENT_ADDRESS": f"127.0.0.1:{ports['enhancement'][1]}",
            "MIEN_GATEWAY__MAPPING_ADDRESS": f"127.0.0.1:{ports['mapping'][1]}",
            "MIEN_GATEWAY__TIMEOUT_SECONDS": str(TIMEOUT_SECONDS),
            "MIEN_GALLERY__URI": f"sqlite:{self.database}",
            "MIEN_REDIS__URL": redis,
            "MIEN_ACCESS__REQUIRED": "never",
        }

    def _service(self, name: str, further: dict[str, str]) -> Program:
        http_port, grpc_port = self.ports[name]
        own = "GRPC_PORT" if name == "gateway" else "PORT"
        variables = {
            "MIEN_HOME": str(self._home),
            "MIEN_LOG_LEVEL": "warning",
            f"MIEN_{name.upper()}__HTTP_PORT": str(http_port),
            f"MIEN_{name.upper()}__{own}": str(grpc_port),
            **self._models,
            **further,
        }
        path = "/healthz/ready" if name == "gateway" else "/metrics"
        command = [sys.executable, "-m", "services.cli", "serve", name]
        logs = self._folder / "logs"
        return Program(name, command, variables, logs, lambda: _answers(http_port, path))

    def _redis(self) -> Program:
        port = self._redis_port
        command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
        return Program("redis", command, {}, self._folder / "logs", lambda: _listens(port))


def milvus_lite(port: int, data: Path, logs: Path) -> Program:
    """Milvus Lite as a server; what it holds is on the disk.

    Args:
        port: of this machine.
        data: its folder.
        logs: folder of its log.
    """
    where = ["--data-dir", str(data), "--host", "127.0.0.1", "--port", str(port)]
    command = [sys.executable, "-m", "milvus_lite", "server", *where]
    return Program("milvus", command, {}, logs, lambda: _listens(port))


def has_milvus() -> bool:
    """Whether Milvus Lite and its client are installed."""
    return all(importlib.util.find_spec(name) for name in ("pymilvus", "milvus_lite"))


def faketime_library() -> Path | None:
    """libfaketime, by which a process's clock can be set; None where it is not installed."""
    places = (
        found
        for folder in _LIBRARIES
        for pattern in (f"faketime/{_FAKETIME}", f"*/faketime/{_FAKETIME}")
        for found in folder.glob(pattern)
    )
    return next(places, None)


def _listens(port: int) -> bool:
    with socket.create_connection(("127.0.0.1", port), timeout=1):
        return True


def _answers(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    with contextlib.closing(connection):
        try:
            connection.request("GET", path)
            return connection.getresponse().status == http.client.OK
        except http.client.HTTPException:
            return False
