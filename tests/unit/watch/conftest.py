from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from services.watch.view import VideoView

FPS = 25
SECONDS = 2


def picture(shade: int, height: int = 48, width: int = 64) -> np.ndarray:
    return np.full((height, width, 3), shade, np.uint8)


@pytest.fixture(scope="session")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds at 25 frames per second; each frame is a little brighter."""
    path = tmp_path_factory.mktemp("video") / "clip.mp4"
    view = VideoView(path, FPS)
    for number in range(FPS * SECONDS):
        view.add(picture(40 + 4 * number), 1000 + number / FPS)
    view.close()
    return path


@pytest.fixture
def redis_port(tmp_path: Path) -> Iterator[int]:
    """A Redis server of this test's own."""
    if shutil.which("redis-server") is None:
        pytest.skip("there is no redis-server")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    process = start_redis(port, tmp_path)
    yield port
    process.terminate()
    process.wait(timeout=10)


def start_redis(port: int, folder: Path) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        ["redis-server", "--port", str(port), "--save", "", "--dir", str(folder)],
        stdout=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return process
    process.kill()
    raise RuntimeError("redis-server did not start")
