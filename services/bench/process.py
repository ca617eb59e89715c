"""Starts a service in a process of its own, for as long as it is measured."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from services.settings import Settings

_START_SECONDS = 180.0  # on a machine that others use too
_STOP_SECONDS = 30.0


class Served(NamedTuple):
    """A service that runs: its HTTP and gRPC ports, and its process id."""

    http_port: int
    grpc_port: int
    pid: int


@contextlib.contextmanager
def served(
    settings: Settings, service: str = "all", environment: Mapping[str, str] | None = None
) -> Iterator[Served]:
    """Runs `mien serve`.

    Args:
        settings: of this process; its home is handed on.
        service: "all", or one of the model services.
        environment: further variables.

    Yields:
        Where it is.

    Raises:
        RuntimeError: it does not become ready.
    """
    http_port, grpc_port = free_port(), free_port()
    alone = service != "all"
    group = service.upper() if alone else "GATEWAY"
    ports = {
        f"MIEN_{group}__HTTP_PORT": str(http_port),
        f"MIEN_{group}__{'PORT' if alone else 'GRPC_PORT'}": str(grpc_port),
    }
    variables = {
        "MIEN_HOME": str(settings.home),
        "MIEN_LOG_LEVEL": "warning",
        **ports,
        **(environment or {}),
    }
    command = [sys.executable, "-m", "services.cli", "serve", service]
    path = "/metrics" if alone else "/healthz/ready"
    with running(command, variables, http_port, path) as pid:
        yield Served(http_port, grpc_port, pid)


@contextlib.contextmanager
def running(
    command: list[str], environment: Mapping[str, str], port: int, path: str
) -> Iterator[int]:
    """Runs a command until the block ends; yields its process id.

    Args:
        command: to run.
        environment: variables beside this process's own.
        port: that it answers HTTP on.
        path: that answers 200 as soon as it is ready.

    Raises:
        RuntimeError: it does not become ready.
    """
    # The commands are this package's own.
    process = subprocess.Popen(command, env={**os.environ, **environment})  # noqa: S603
    try:
        _wait_until_ready(process, port, path)
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=_STOP_SECONDS)


def free_port() -> int:
    """A port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def resident_bytes(pid: int) -> int:
    """Resident memory of a process, bytes."""
    with open(f"/proc/{pid}/statm", encoding="ascii") as file:  # noqa: PTH123 - procfs
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def cpu_seconds(pid: int) -> float:
    """CPU time that a process has used, all threads together, seconds."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:  # noqa: PTH123 - procfs
        user, system = file.read().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def _wait_until_ready(process: subprocess.Popen[bytes], port: int, path: str) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError("the service ended while it was starting")
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
            connection.request("GET", path)
            if connection.getresponse().status == http.client.OK:
                return
        time.sleep(0.1)
    raise RuntimeError("the service did not become ready")
