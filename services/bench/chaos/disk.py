"""A disk that can be filled: a small file system of its own, or else a limit of the process."""

from __future__ import annotations

import contextlib
import resource
import subprocess
from pathlib import Path

_MEGABYTES = 256
_CHUNK = bytes(1 << 20)


class SmallDisk:
    """A folder whose disk can be full without anybody else's.

    Who may mount file systems gets one of its own. Who may not has the files of one process limited
    to no size at all: a write then fails as well, though with another error.

    Args:
        folder: empty; files are kept in it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._filler = folder / "filler"
        self._limited = 0
        mounted = subprocess.run(  # noqa: S603
            ["mount", "-t", "tmpfs", "-o", f"size={_MEGABYTES}m", "tmpfs", str(folder)],  # noqa: S607
            capture_output=True,
            check=False,
        )
        self.is_mounted = mounted.returncode == 0

    def fill(self, pid: int) -> None:
        """Leaves no byte free.

        Args:
            pid: the process that writes there.
        """
        if not self.is_mounted:
            self._limited = pid
            _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, hard))
            return
        with self._filler.open("wb", buffering=0) as filler, contextlib.suppress(OSError):
            chunk = _CHUNK
            while chunk:
                try:
                    filler.write(chunk)
                except OSError:  # the rest may still hold a part of it
                    chunk = chunk[: len(chunk) // 2]

    def free(self) -> None:
        """Makes room again."""
        if self._limited:
            _, hard = resource.prlimit(self._limited, resource.RLIMIT_FSIZE)
            resource.prlimit(self._limited, resource.RLIMIT_FSIZE, (hard, hard))
            self._limited = 0
        self._filler.unlink(missing_ok=True)

    def close(self) -> None:
        """Gives the disk back, with all that is on it."""
        self.free()
        if self.is_mounted:
            subprocess.run(["umount", str(self.folder)], capture_output=True, check=False)  # noqa: S603, S607
