"""API keys in SQLite: one file that the command line writes and all gateways of a host read."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from services.access.keys import Key
from services.access.policy import Action
from services.errors import Errors, MienError
from services.telemetry import get_logger

_log = get_logger(__name__)
_Result = TypeVar("_Result")
_BUSY_MS = 5_000
_VERSION = 1
_PRIVATE = 0o600
_SCHEMA = """
CREATE TABLE IF NOT EXISTS keys (
    id TEXT PRIMARY KEY,
    tenant TEXT NOT NULL,
    actions TEXT NOT NULL,
    name TEXT NOT NULL,
    rate TEXT,
    created TEXT NOT NULL,
    expires TEXT,
    revoked TEXT,
    last_used TEXT,
    digest BLOB NOT NULL,
    old_digest BLOB,
    old_until TEXT
) STRICT, WITHOUT ROWID
"""


class KeyDatabase:
    """A `KeyStore` that can also be changed. Its methods block; any thread may call them.

    Args:
        path: the file; it and its folder are made if they are missing.

    Raises:
        MienError: it is no database of keys, or a newer Mien wrote it.
    """

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._seen: tuple[int, int] | None = None
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, _PRIVATE))
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            self._told(self._prepare)
        except BaseException:
            self._connection.close()
            raise

    def keys(self) -> Mapping[str, Key] | None:
        """All keys by id; None if nothing has changed since the last call.

        Raises:
            MienError: the database cannot be read.
        """

        def read() -> Mapping[str, Key] | None:
            # The first number moves with what others write, the second with what is written here.
            (version,) = self._connection.execute("PRAGMA data_version").fetchone()
            state = (version, self._connection.total_changes)
            if state == self._seen:
                return None
            rows = self._connection.execute("SELECT * FROM keys").fetchall()
            self._seen = state
            return {key.id: key for key in map(_key, rows)}

        return self._told(read)

    def all(self) -> list[Key]:
        """All keys, oldest first.

        Raises:
            MienError: the database cannot be read.
        """
        return self._told(
            lambda: [
                _key(row)
                for row in self._connection.execute("SELECT * FROM keys ORDER BY created, id")
            ]
        )

    def add(self, key: Key) -> None:
        """Stores a new key.

        Raises:
            MienError: the database cannot be written.
        """
        self._told(lambda: self._insert(key))

    def add_first(self, make: Callable[[], Key]) -> bool:
        """Stores a key if there is none at all; says whether it did.

        Args:
            make: the key; nobody else adds one meanwhile.

        Raises:
            MienError: the database cannot be written.
        """

        def work() -> bool:
            self._connection.execute("BEGIN IMMEDIATE")  # two gateways may start at once
            try:
                (count,) = self._connection.execute("SELECT count(*) FROM keys").fetchone()
                if count == 0:
                    self._insert(make())
                self._connection.execute("COMMIT")
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            return bool(count == 0)

        return self._told(work)

    def revoke(self, key_id: str) -> Key:
        """Ends a key for good; one that has ended already stays as it is.

        Raises:
            MienError: there is no such key, or the database cannot be written.
        """
        now = _text(datetime.now(UTC))
        self._change("UPDATE keys SET revoked = coalesce(revoked, ?) WHERE id = ?", now, key_id)
        return self._one(key_id)

    def rotate(self, key_id: str, digest: bytes, grace: timedelta) -> Key:
        """Gives a key a new secret; the one before is taken for a grace time.

        Raises:
            MienError: there is no such key, it has ended, or the database cannot be written.
        """
        if not self._one(key_id).is_active(datetime.now(UTC)):
            raise MienError(
                Errors.KEY_UNKNOWN, "The key has ended: make a new one.", field="key_id"
            )
        self._change(
            "UPDATE keys SET old_digest = digest, old_until = ?, digest = ? WHERE id = ?",
            _text(datetime.now(UTC) + grace),
            digest,
            key_id,
        )
        return self._one(key_id)

    def touch(self, key_id: str, when: datetime) -> None:
        """Notes that a key was used.

        Raises:
            MienError: the database cannot be written.
        """
        self._told(
            lambda: self._connection.execute(
                "UPDATE keys SET last_used = ? WHERE id = ?", (_text(when), key_id)
            )
        )

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            self._connection.close()

    def _prepare(self) -> None:
        self._connection.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        (version,) = self._connection.execute("PRAGMA user_version").fetchone()
        if version > _VERSION:
            raise MienError(Errors.ACCESS_UNAVAILABLE, "A newer Mien wrote the API keys.")
        self._connection.execute(_SCHEMA)
        self._connection.execute(f"PRAGMA user_version = {_VERSION}")

    def _one(self, key_id: str) -> Key:
        query = "SELECT * FROM keys WHERE id = ?"
        row = self._told(lambda: self._connection.execute(query, (key_id,)).fetchone())
        if row is None:
            raise MienError(Errors.KEY_UNKNOWN, "There is no such key.", field="key_id")
        return _key(row)

    def _insert(self, key: Key) -> None:
        row = (
            key.id,
            key.tenant,
            ",".join(sorted(key.actions)),
            key.name,
            key.rate,
            _text(key.created),
            _text(key.expires),
            _text(key.revoked),
            _text(key.last_used),
            key.digest,
            key.old_digest,
            _text(key.old_until),
        )
        self._connection.execute(f"INSERT INTO keys VALUES ({','.join('?' * len(row))})", row)  # noqa: S608 - question marks alone

    def _change(self, statement: str, *values: object) -> None:
        self._told(lambda: self._connection.execute(statement, values))

    def _told(self, work: Callable[[], _Result]) -> _Result:
        """Runs work alone; what SQLite finds wrong is logged, and the caller told that it fails."""
        try:
            with self._lock:
                return work()
        except sqlite3.Error as error:
            name = getattr(error, "sqlite_errorname", type(error).__name__)
            _log.error("the database of API keys failed", code=name)
            raise MienError(
                Errors.ACCESS_UNAVAILABLE,
                "The API keys cannot be read or written; the log says why.",
                retry_after=1.0,
            ) from error


def _key(row: Any) -> Key:
    identifier, tenant, actions, name, rate, *times, digest, old_digest, old_until = row
    created, expires, revoked, last_used = map(_time, times)
    made = created or datetime.fromtimestamp(0, UTC)
    allowed = frozenset(Action(word) for word in actions.split(","))
    key = Key(identifier, tenant, allowed, name, rate, made, expires, revoked, last_used)
    return replace(key, digest=digest, old_digest=old_digest, old_until=_time(old_until))


def _text(when: datetime | None) -> str | None:
    return None if when is None else when.isoformat(timespec="microseconds")


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
