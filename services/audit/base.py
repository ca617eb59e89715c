"""Where a shortened file of the audit log begins: the record that its archived part ends with.

It is the file's own first line, signed like an anchor, so that one rename shortens a file: there is
no moment at which file and base do not belong together. Offsets in the log count what was archived,
so that anchors from before still hold.
"""

from __future__ import annotations

import fcntl
import hmac
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from services.audit.anchor import AnchorKey
from services.audit.record import START, canonical

_LOCK = "swap.lock"
_PRIVATE = 0o600
_SIGNED = b"base"
_LONGEST = 4096


@dataclass(frozen=True)
class Base:
    """The end of what was archived of a file.

    Attributes:
        log: id of the file.
        n: number of the last archived record; 0 for a file that was never shortened.
        hash: of that record.
        end: bytes of the log up to its end.
        at: bytes that this line takes in the file.
    """

    log: str = ""
    n: int = 0
    hash: str = START
    end: int = 0
    at: int = 0

    @property
    def shift(self) -> int:
        """What is added to an offset in the log for the one in the file."""
        return self.at - self.end


def base_line(key: AnchorKey, log: str, number: int, mark: str, end: int) -> bytes:
    """The first line of a shortened file; see `Base`."""
    told = {"log": log, "n": number, "hash": mark, "end": end}
    return canonical({"base": told, "mac": key.sign(_SIGNED, told)}) + b"\n"


def read_base(file: Path, key: AnchorKey) -> Base | None:
    """A file's base; None where there is one whose signature does not hold.

    Raises:
        OSError: the file cannot be read.
    """
    with file.open("rb") as opened:
        return base_of(opened, key)


def base_of(opened: IO[bytes], key: AnchorKey) -> Base | None:
    """As `read_base`, of an open file at its beginning, which is left at the first record."""
    line = opened.readline(_LONGEST)
    told = _told(line)
    if told is None:
        opened.seek(0)
        return Base()
    try:
        base, mac = told["base"], str(told["mac"])
        made = Base(str(base["log"]), int(base["n"]), str(base["hash"]), int(base["end"]))
    except (KeyError, TypeError, ValueError):
        return None
    plain = {name: value for name, value in asdict(made).items() if name != "at"}
    if line != canonical({"base": plain, "mac": mac}) + b"\n":
        return None
    if not hmac.compare_digest(mac, key.sign(_SIGNED, plain)):
        return None
    return Base(made.log, made.n, made.hash, made.end, len(line))


def is_base(told: dict[str, Any]) -> bool:
    """Whether a line of a file is its base, and no record."""
    return "base" in told


@contextmanager
def swapping(folder: Path, *, alone: bool) -> Iterator[None]:
    """Keeps files in their places: writers hold it together, whoever shortens them holds it alone.

    Args:
        folder: of the log.
        alone: nobody else is to have it.

    Raises:
        OSError: the lock cannot be opened.
    """
    handle = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, _PRIVATE)
    try:
        like(handle, folder)
        fcntl.flock(handle, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield
    finally:
        os.close(handle)


def like(handle: int, other: Path) -> None:
    """Gives an open file to the owner of another: a command may run as root, a service does not."""
    if os.geteuid() != 0:
        return
    meant, own = other.stat(), os.fstat(handle)
    if (meant.st_uid, meant.st_gid) != (own.st_uid, own.st_gid):
        os.fchown(handle, meant.st_uid, meant.st_gid)


def _told(line: bytes) -> dict[str, Any] | None:
    try:
        told = json.loads(line)
    except ValueError:
        return None
    return told if isinstance(told, dict) and is_base(told) else None
