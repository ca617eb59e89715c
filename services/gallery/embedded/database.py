"""SQLite for one process: one thread writes, a few read, and nothing is acknowledged early."""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from services.errors import Errors, MienError
from services.gallery.embedded.schema import migrate
from services.telemetry import get_logger

_log = get_logger(__name__)
_Result = TypeVar("_Result")
Connection = sqlite3.Connection

_BUSY_MS = 10_000
_READERS = 4
_PAGE_BYTES = 8192
_CHECKPOINT_TRIES = 5
_CHECKPOINT_MS = 200  # a reader's snapshot is over long before


class Database:
    """A database file that this process alone holds open.

    Args:
        path: the file; it and its folder are made if they are missing.

    Raises:
        MienError: another process holds it, or it is no database of ours.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = _held(path.with_name(path.name + ".lock"))
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="gallery-write")
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="gallery-read")
        self._opened: list[Connection] = []
        self._of_thread = threading.local()
        try:
            self._connection = self._writer.submit(self._open_writer).result()
        except BaseException:
            self._close()
            raise

    async def write(self, work: Callable[[Connection], _Result]) -> _Result:
        """Runs work in a transaction of the writer's; it is on the disk when this returns."""
        return await self.alone(lambda: self.transaction(work))

    async def alone(self, work: Callable[[], _Result]) -> _Result:
        """Runs work on the writer's thread, where nothing else writes meanwhile."""
        # A caller that goes away must not part a commit from what follows it.
        return await asyncio.shield(self._run(self._writer, lambda: _told(work)))

    def transaction(self, work: Callable[[Connection], _Result]) -> _Result:
        """Commits what the work does, or nothing. Only on the writer's thread."""
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            result = work(connection)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        return result

    def empty_log(self) -> bool:
        """Moves the log into the file and cuts it, so that deleted rows are in neither."""
        self._connection.execute(f"PRAGMA busy_timeout = {_CHECKPOINT_MS}")
        try:
            for _ in range(_CHECKPOINT_TRIES):
                busy, *_ = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                if not busy:
                    return True
        finally:
            self._connection.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
        return False

    async def read(self, work: Callable[[Connection], _Result]) -> _Result:
        """Runs work on one consistent state of the database."""
        return await self._run(self._readers, lambda: self.snapshot(work))

    def snapshot(self, work: Callable[[Connection], _Result]) -> _Result:
        """As `read`, on the thread that calls it, over a connection of that thread's own."""
        return _told(lambda: self._snapshot(work))

    def _snapshot(self, work: Callable[[Connection], _Result]) -> _Result:
        connection: Connection | None = getattr(self._of_thread, "connection", None)
        if connection is None:
            connection = _connect(self.path)
            connection.execute("PRAGMA query_only = ON")
            self._of_thread.connection = connection
            self._opened.append(connection)
        connection.execute("BEGIN")
        try:
            return work(connection)
        finally:
            connection.execute("ROLLBACK")

    async def close(self) -> None:
        """Waits for what is at work and lets the file go."""
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._readers.shutdown()
        self._writer.shutdown()
        for connection in self._opened:
            connection.close()
        if self._lock >= 0:
            os.close(self._lock)  # which gives up the lock
            self._lock = -1

    def _open_writer(self) -> Connection:
        def opened() -> Connection:
            connection = _connect(self.path)
            self._opened.append(connection)
            # Holds three vectors of 512 numbers, where the usual page holds one and is half empty.
            connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA secure_delete = ON")
            migrate(connection)
            return connection

        return _told(opened)

    @staticmethod
    async def _run(pool: ThreadPoolExecutor, work: Callable[[], _Result]) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(pool, work)


def _connect(path: Path) -> Connection:
    # Each connection stays with its thread; only closing happens on another, when all is over.
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
    return connection


def _told(work: Callable[[], _Result]) -> _Result:
    """Runs work; what SQLite finds wrong is logged, and the caller told that the store fails."""
    try:
        return work()
    except sqlite3.Error as error:
        _log.error("the gallery's database failed", error=type(error).__name__, code=_code(error))
        raise MienError(
            Errors.GALLERY_UNAVAILABLE, "The gallery's database failed; the log says how."
        ) from error


def _code(error: sqlite3.Error) -> str:
    return str(getattr(error, "sqlite_errorname", ""))


@contextmanager
def lock_of(database: Path) -> Iterator[None]:
    """Holds the place of a database, as whoever opens it does.

    Raises:
        MienError: another process holds it.
    """
    handle = _held(database.with_name(database.name + ".lock"))
    try:
        yield
    finally:
        os.close(handle)


def _held(file: Path) -> int:
    """Takes the lock of a database; the search index of a second process would grow stale."""
    handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        raise MienError(
            Errors.GALLERY_UNAVAILABLE, "Another process holds this gallery open."
        ) from error
    return handle
