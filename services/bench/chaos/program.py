"""One program of a Mien of several processes: started, killed, stopped and started again."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

_START_SECONDS = 180.0  # on a machine that others use too
_STOP_SECONDS = 40.0
_LOOK = 0.05


class Program:
    """A command that can be started again and again, each time on the same ports.

    Args:
        name: for errors, and of its log file.
        command: to run.
        environment: variables beside this process's own; whoever changes it changes the next start.
        folder: of its log.
        is_ready: whether it answers by now.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        folder: Path,
        is_ready: Callable[[], bool],
    ) -> None:
        self.name = name
        self.environment = dict(environment)
        self.log = folder / f"{name}.log"
        self._command, self._is_ready = list(command), is_ready
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Its process id; 0 while it does not run."""
        return 0 if self._process is None else self._process.pid

    def start(self) -> None:
        """Starts it and waits until it answers.

        Raises:
            RuntimeError: it ends, or does not answer in time.
        """
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - commands of this package
                self._command,
                env={**os.environ, **self.environment},
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise RuntimeError(f"{self.name} ended while it was starting")
            with contextlib.suppress(OSError):
                if self._is_ready():
                    return
            time.sleep(_LOOK)
        raise RuntimeError(f"{self.name} did not become ready")

    def kill(self) -> None:
        """Ends it as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def terminate(self) -> int:
        """Asks it to end, and waits; returns its exit code.

        Raises:
            RuntimeError: it does not end.
        """
        if self._process is None:
            return 0
        self._process.send_signal(signal.SIGTERM)
        try:
            code = self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired as error:
            self.kill()
            raise RuntimeError(f"{self.name} did not end when it was asked to") from error
        self._process = None
        return code

    def freeze(self) -> None:
        """Lets it hold its memory and connections, and do nothing."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Lets it go on."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
