"""A real Redis for tests, which can be killed and started again on the same port."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from typing import Self

import pytest
import redis

from tests.integration.harness import START_SECONDS, free_port

_COMMAND = "redis-server"


class RedisServer:
    """`redis-server` on a free port of this host, without persistence.

    Args:
        password: that it asks for; empty for none.
    """

    def __init__(self, password: str = "") -> None:
        self.port = free_port()
        self._password = password
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """As `MIEN_REDIS__URL`."""
        user = f":{self._password}@" if self._password else ""
        return f"redis://{user}127.0.0.1:{self.port}/0"

    def client(self) -> redis.Redis:
        """To look at what it holds."""
        return redis.Redis.from_url(self.url)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Starts it and waits until it answers; it is empty then."""
        own = ["--requirepass", self._password] if self._password else []
        self._process = subprocess.Popen(
            [_COMMAND, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", *own],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + START_SECONDS
        with self.client() as client:
            while True:
                try:
                    client.ping()
                except redis.ConnectionError:
                    if time.monotonic() > deadline or self._process.poll() is not None:
                        raise
                    time.sleep(0.02)
                else:
                    return

    def kill(self) -> None:
        """Ends it as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(timeout=START_SECONDS)
            self._process = None

    def freeze(self) -> None:
        """Lets it hold its connections and answer nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Lets it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)


def skip_without_redis() -> None:
    """Skips a test where `redis-server` is not installed."""
    if shutil.which(_COMMAND) is None:
        reason = f"{_COMMAND} is not installed; on Debian: apt-get install {_COMMAND}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
