"""Connections of bad callers, and a good caller whose times are taken meanwhile."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import httpx

from tests.hostile import encoded, gradient
from tests.integration.harness import MienProcess

MOST = 1000  # connections that the process lets in
HEADER_SECONDS, STALLED_SECONDS = 1.5, 2.0  # that it waits: less than usual, so that tests see it
SLOWEST = 3.0  # seconds, of a good caller's request while a whole test run has two cores
PICTURE = encoded(gradient(160, 120), "JPEG")
HEAD = b"POST /v1/verify HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


def dial(port: int) -> socket.socket:
    """A connection to this machine."""
    return socket.create_connection(("127.0.0.1", port), timeout=20)


@contextlib.contextmanager
def crowd(port: int, size: int, first: bytes = b"") -> Iterator[list[socket.socket]]:
    """Many connections at once, each of which has sent the same."""
    with contextlib.ExitStack() as stack:
        opened = []
        for _ in range(size):
            one = stack.enter_context(dial(port))
            with contextlib.suppress(ConnectionError):
                one.sendall(first)
            opened.append(one)
        yield opened


def answer_of(connection: socket.socket, seconds: float) -> bytes | None:
    """All that comes until the server closes; None if it has not closed by then."""
    connection.settimeout(seconds)
    found = b""
    try:
        while more := connection.recv(65_536):
            found += more
    except (TimeoutError, BlockingIOError):
        return None
    except ConnectionError:
        pass
    return found


def send(connection: socket.socket, data: bytes) -> None:
    """Sends as much as the other side takes."""
    with contextlib.suppress(OSError):
        connection.sendall(data)


def pour(connection: socket.socket, data: bytes, seconds: float = 30.0) -> None:
    """Sends the same again and again, until the other side hangs up."""
    end = time.monotonic() + seconds
    with contextlib.suppress(OSError):
        while time.monotonic() < end:
            connection.sendall(data)


def is_reset(connection: socket.socket) -> bool:
    """Whether the other side has hung up on what is still under way."""
    poll = select.poll()
    poll.register(connection, 0)
    return bool(poll.poll(0))


def resident(process: MienProcess) -> int:
    """Bytes of memory that the process holds."""
    status = Path(f"/proc/{process.process.pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


def files_of(process: MienProcess) -> int:
    """Files and connections that the process has open."""
    return len(list(Path(f"/proc/{process.process.pid}/fd").iterdir()))


def wait_until(true: Callable[[], bool], seconds: float, otherwise: str) -> None:
    """Waits for something; fails with that sentence if it does not come."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, otherwise
        time.sleep(0.1)


class GoodCaller:
    """Does ordinary work in a thread and takes its times.

    Args:
        process: Mien.
        work: one request; it raises where the answer is not the right one.
    """

    def __init__(self, process: MienProcess, work: Callable[[httpx.Client], None]) -> None:
        self._process, self._work = process, work
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.seconds: list[float] = []
        self.faults: list[str] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def percentile(self, share: float) -> float:
        """Seconds in which that share of the requests was answered."""
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    def _run(self) -> None:
        while not self._ended.is_set():
            with self._process.mien.client() as client:  # a new connection each time, as apps do
                started = time.monotonic()
                try:
                    self._work(client)
                except (AssertionError, httpx.HTTPError) as error:
                    self.faults.append(repr(error))
                self.seconds.append(time.monotonic() - started)
            time.sleep(0.02)


@contextlib.contextmanager
def served_meanwhile(mien: MienProcess, attack: str) -> Iterator[None]:
    """Somebody else's pictures are looked at all the time, each in time."""

    def work(client: httpx.Client) -> None:
        answer = client.post("/v1/detect", files={"image": PICTURE})
        assert answer.status_code == httpx.codes.OK, answer.text

    with GoodCaller(mien, work) as good:
        yield
    times = {share: round(good.percentile(share) * 1e3) for share in (0.5, 0.99)}
    print(f"{attack}: {len(good.seconds)} requests, ms {times}")  # noqa: T201 - shown with -s
    assert not good.faults, good.faults[:3]
    assert good.percentile(0.99) < SLOWEST, times
