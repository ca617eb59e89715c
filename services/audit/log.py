"""The writer of the audit log: append-only files of JSON lines, each record chained to the last.

One process writes one file: the first that no other holds. Records that come while the disk is
busy share the next write, so that many callers wait for one `fsync`.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import queue
import threading
import time
import uuid
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path

from services.audit.anchor import Anchor, AnchorKey, unsigned
from services.audit.base import read_base, swapping
from services.audit.caller import MIEN
from services.audit.record import START, Action, Entry, hash_of, line_of
from services.errors import Errors, MienError
from services.telemetry import get_logger

_log = get_logger(__name__)

STEM = "audit-"
SUFFIX = ".jsonl"
_HEAD = ".head"
_PRIVATE = 0o600
_MOST_FILES = 10_000
_MOST_TOGETHER = 500
_LONGEST_LINE = 1 << 20


@dataclass(frozen=True)
class _Asked:
    entries: Sequence[Entry]
    answer: Future[list[int]]


def log_files(folder: Path) -> list[Path]:
    """The files of a log, by number."""
    return sorted(folder.glob(f"{STEM}*{SUFFIX}"))


def head_of(file: Path) -> Path:
    """Where a file's anchor is."""
    return file.with_suffix(_HEAD)


class AuditLog:
    """One file of the log, open for this process.

    Args:
        folder: of the log; it is made if it is missing.
        key: signs anchors.
        anchor_seconds: longest time in which written records are not anchored yet; 0 anchors them
            before anybody is told that they are written.

    Raises:
        OSError: no file can be opened.
    """

    def __init__(self, folder: Path, key: AnchorKey, anchor_seconds: float = 1.0) -> None:
        self._folder, self._key, self._seconds = folder, key, anchor_seconds
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._closed, self._door = False, threading.Lock()
        self._asked: queue.SimpleQueue[_Asked | None] = queue.SimpleQueue()
        with swapping(folder, alone=False):
            self._handle, self.file = _claimed(folder, key)
            try:
                self._begin()
            except BaseException:
                os.close(self._handle)
                raise
        self._thread = threading.Thread(target=self._work, name="audit", daemon=True)
        self._thread.start()

    def append(self, entries: Sequence[Entry]) -> Future[list[int]]:
        """Adds records, all or none.

        Returns:
            Their numbers, when they are on the disk; an OSError where they could not be written.
        """
        answer: Future[list[int]] = Future()
        answer.set_running_or_notify_cancel()
        with self._door:
            if self._closed:
                answer.set_exception(OSError("the audit log is closed"))
            else:
                self._asked.put(_Asked(entries, answer))
        return answer

    def close(self) -> None:
        """Writes what waits, anchors it and lets the file go."""
        with self._door:
            self._closed = True
            self._asked.put(None)  # nothing comes behind it
        self._thread.join()
        os.close(self._handle)

    def _begin(self) -> None:
        """Takes up where the file ends, and says so in its first record since then."""
        size = os.fstat(self._handle).st_size
        told = _tail(self.file, self._key) if size else Anchor(uuid.uuid4().hex, 0, START, 0)
        base = read_base(self.file, self._key)
        assert told is not None  # noqa: S101 - claimed because it holds
        assert base is not None  # noqa: S101 - likewise
        self._id, self._number, self._hash, self._end = told.log, told.n, told.hash, told.end
        self._shift = base.shift
        # A record that a process was killed over; nobody was told of it.
        cut = size - self._end - self._shift
        if cut:
            os.ftruncate(self._handle, self._end + self._shift)
        others = {}
        for file in log_files(self._folder):
            kept = unsigned(head_of(file))
            if file != self.file and kept is not None:
                others[file.name] = {"n": kept[0].n, "hash": kept[0].hash}
        if not size:
            self._anchor()  # so that whoever is killed before the next one leaves a file that holds
        about = {"log": self._id, "others": others, "cut": cut}
        self._write([Entry(Action.LOG_OPEN, MIEN, about=about)])
        self._anchor()

    def _work(self) -> None:
        while True:
            asked = self._next()
            if asked is None:
                self._anchor_or_warn()
                return
            together = [asked]
            ending = False
            while len(together) < _MOST_TOGETHER and not self._asked.empty():
                further = self._asked.get()
                if further is None:
                    ending = True
                    break
                together.append(further)
            self._answer(together)
            if self._due():
                self._anchor_or_warn()
            if ending:
                self._asked.put(None)

    def _next(self) -> _Asked | None:
        """The next records; while none come, what is not anchored yet is."""
        if self._number == self._anchored:
            return self._asked.get()
        wait = max(0.0, self._anchored_at + self._seconds - time.monotonic())
        try:
            return self._asked.get(timeout=wait)
        except queue.Empty:
            self._anchor_or_warn()
            return self._asked.get()

    def _due(self) -> bool:
        is_behind = self._number != self._anchored
        return is_behind and time.monotonic() >= self._anchored_at + self._seconds

    def _answer(self, together: list[_Asked]) -> None:
        try:
            with swapping(self._folder, alone=False):
                self._keep_up()
                start = self._number
                self._write([entry for asked in together for entry in asked.entries])
        except (OSError, MienError) as error:
            for asked in together:
                asked.answer.set_exception(error)
            return
        for asked in together:
            count = len(asked.entries)
            asked.answer.set_result(list(range(start + 1, start + 1 + count)))
            start += count

    def _write(self, entries: Sequence[Entry]) -> None:
        """Writes records down to the disk; where that fails, the file ends as before."""
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        number, mark, lines = self._number, self._hash, []
        for entry in entries:
            number += 1
            line, mark = line_of(entry, number, at, mark)
            lines.append(line)
        content, end = b"".join(lines), self._end + self._shift
        anchor = Anchor(self._id, number, mark, self._end + len(content))
        try:
            written = 0
            while written < len(content):
                written += os.pwrite(self._handle, content[written:], end + written)
            os.fsync(self._handle)
            if not self._seconds:
                self._put(anchor)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._handle, end)
            raise
        self._number, self._hash, self._end = number, mark, anchor.end

    def _keep_up(self) -> None:
        """Goes on in the file that is there now, where another process has shortened this one."""
        if _is_at(self._handle, self.file):
            return
        before, end = self._handle, self._end
        self._handle, self.file = _claimed(self._folder, self._key, self.file)
        os.close(before)
        base = read_base(self.file, self._key)
        size = os.fstat(self._handle).st_size
        if base is not None and base.log == self._id and size == end + base.shift:
            self._shift = base.shift
        else:  # yet another process was faster
            self._begin()

    def _anchor(self) -> None:
        self._put(Anchor(self._id, self._number, self._hash, self._end))

    def _put(self, anchor: Anchor) -> None:
        self._key.write(head_of(self.file), anchor)
        self._anchored, self._anchored_at = anchor.n, time.monotonic()

    def _anchor_or_warn(self) -> None:
        try:
            with swapping(self._folder, alone=False):
                self._keep_up()
                self._anchor()
        except (OSError, MienError) as error:
            self._anchored_at = time.monotonic()
            _log.error("the audit log could not be anchored", error=type(error).__name__)


def _is_at(handle: int, file: Path) -> bool:
    """Whether an open file is the one of that name, and not one that was there before."""
    try:
        return os.path.samestat(os.fstat(handle), file.stat())
    except FileNotFoundError:
        return True  # somebody has removed it: `verify` tells of that


def _claimed(folder: Path, key: AnchorKey, first: Path | None = None) -> tuple[int, Path]:
    """A file that no other process writes, locked; a new one if none is fit to go on with.

    A file whose anchor or end does not hold is left as it is, for `verify` to tell of.

    Args:
        folder: of the log; nobody shortens files meanwhile.
        key: of its anchors.
        first: tried before the others, which are tried by number.
    """
    numbered = (folder / f"{STEM}{number:04d}{SUFFIX}" for number in range(1, _MOST_FILES))
    for file in numbered if first is None else chain([first], numbered):
        handle = os.open(file, os.O_RDWR | os.O_CREAT, _PRIVATE)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(handle)
            continue
        is_new = not os.fstat(handle).st_size and not head_of(file).exists()
        if is_new or _tail(file, key) is not None:
            return handle, file
        os.close(handle)
        _log.error("a file of the audit log does not hold; a new one is begun", file=file)
    raise MienError(Errors.AUDIT_UNAVAILABLE, "The audit log has too many files.")


def _tail(file: Path, key: AnchorKey) -> Anchor | None:
    """The last whole record of a file; None unless the anchor holds and all after it follows.

    What comes before the anchor is looked at by `verify`: a start must not wait for all of it.
    """
    anchor, base = key.read(head_of(file)), read_base(file, key)
    if anchor is None or base is None or anchor.n < base.n:
        return None
    signed_to = anchor.end + base.shift
    if file.stat().st_size < signed_to or base.log not in ("", anchor.log):
        return None
    with file.open("rb") as opened:
        start = max(base.at, signed_to - _LONGEST_LINE)
        opened.seek(start)
        before = _last_line(opened.read(signed_to - start))
        rest = opened.read()
    try:
        if anchor.n == base.n:
            if anchor.hash != base.hash:
                return None
        else:
            told = json.loads(before)
            if (told["n"], hash_of(told), told["hash"]) != (anchor.n, anchor.hash, anchor.hash):
                return None
        number, mark, end = anchor.n, anchor.hash, anchor.end
        for line in rest.splitlines(keepends=True):
            if not line.endswith(b"\n"):
                break
            told = json.loads(line)
            if (told["n"], told["prev"], told["hash"]) != (number + 1, mark, hash_of(told)):
                return None
            number, mark, end = number + 1, str(told["hash"]), end + len(line)
    except (ValueError, KeyError, TypeError):
        return None
    return Anchor(anchor.log, number, mark, end)


def _last_line(content: bytes) -> bytes:
    return content[content.rstrip(b"\n").rfind(b"\n") + 1 :]
