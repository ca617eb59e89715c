"""Writing of downloads: a disk that is full or closed is told as such, and nothing half stays."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from models.zoo.errors import DiskError

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_MB = 1e6


def make_folder(folder: Path) -> None:
    """Makes a folder for downloads, if it is not there.

    Raises:
        DiskError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _refused(folder, error) from error


@contextmanager
def writing(file: Path, size: int | None, have: int = 0) -> Iterator[None]:
    """Looks for room before a file is written in the block; takes away what has none.

    Args:
        file: that is written; its folder is there.
        size: bytes that it will have; None if nobody knows.
        have: bytes of it that are there already.

    Raises:
        DiskError: there is no room for it, or it may not be written.
    """
    try:
        _look_for_room(file, 0 if size is None else size - have)
        yield
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise _refused(file.parent, error) from error
        with suppress(OSError):
            file.unlink()
        raise DiskError(_no_room(file, size)) from error


def _look_for_room(file: Path, needed: int) -> None:
    if shutil.disk_usage(file.parent).free < needed:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _no_room(file: Path, size: int | None) -> str:
    needed = "" if size is None else f"{size / _MB:.1f} MB are needed, "
    free = shutil.disk_usage(file.parent).free
    return (
        f"There is no room for {file.name} in {file.parent}: {needed}{free / _MB:.1f} MB are free. "
        "Free some disk, or set MIEN_HOME to a folder on a larger one."
    )


def _refused(folder: Path, error: OSError) -> DiskError:
    return DiskError(
        f"{folder} cannot be written ({error.strerror}). Make it writable, or set "
        "MIEN_HOME to another folder."
    )
