"""Copies of an embedded gallery: taken while it serves, put back while it does not.

The master key is no part of a copy: who has one without the other has nothing.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from pathlib import Path

from services.errors import Errors, MienError
from services.gallery.embedded.database import lock_of

_PRIVATE = 0o600
_BUSY_MS = 10_000
_BESIDE = ("-wal", "-shm")  # of a database that was killed


def back_up(database: Path, target: Path) -> int:
    """Writes a copy of one moment; whoever enrols or searches meanwhile is not held up.

    Args:
        database: of a gallery, in use or not.
        target: a file that does not exist yet.

    Returns:
        Size of the copy, bytes.

    Raises:
        FileExistsError: the target is there already.
        MienError: there is no gallery, or its copy is not sound.
    """
    if not database.is_file():
        raise _failed(f"There is no gallery at {database}.")
    draft = _draft(target)
    try:
        # One step for all pages is one reader's snapshot: in smaller steps, SQLite begins again
        # whenever the gateway writes.
        with (
            contextlib.closing(
                sqlite3.connect(f"{database.resolve().as_uri()}?mode=rw", uri=True)
            ) as source,
            contextlib.closing(sqlite3.connect(draft)) as copy,
        ):
            source.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
            source.execute("PRAGMA query_only = ON")
            source.backup(copy, pages=-1)
            copy.execute("PRAGMA journal_mode = DELETE")  # so that one file is the whole copy
        _check(draft)
        _keep(draft, target)
    except sqlite3.Error as error:
        raise _failed(f"{database} could not be copied: {type(error).__name__}.") from error
    finally:
        draft.unlink(missing_ok=True)
    return target.stat().st_size


def restore(backup: Path, database: Path) -> None:
    """Puts a copy in the place of a gallery that is not there.

    Args:
        backup: as `back_up` writes it; it stays.
        database: where the gallery is to be. An old one is not overwritten: move it away.

    Raises:
        FileExistsError: there is a gallery already, or part of one.
        MienError: a running Mien holds that place, or the copy is not sound.
    """
    _check(backup)
    database.parent.mkdir(parents=True, exist_ok=True)
    with lock_of(database):
        for path in (database, *(database.with_name(database.name + end) for end in _BESIDE)):
            if path.exists():
                raise FileExistsError(0, "there is a file already: move it away", str(path))
        draft = _draft(database)
        try:
            shutil.copyfile(backup, draft)
            _keep(draft, database)
        finally:
            draft.unlink(missing_ok=True)


def _draft(target: Path) -> Path:
    """An empty file beside the target that only its owner can read."""
    if target.exists():
        raise FileExistsError(0, "there is a file already", str(target))
    draft = target.with_name(target.name + ".part")
    draft.unlink(missing_ok=True)
    os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _PRIVATE))
    return draft


def _keep(draft: Path, target: Path) -> None:
    """Gives a file its name once it is on the disk whole."""
    for path, flags in ((draft, os.O_RDWR), (target.parent, os.O_RDONLY)):
        handle = os.open(path, flags)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
        if path is draft:
            draft.rename(target)


def _check(file: Path) -> None:
    """Refuses what is no gallery, or a damaged one."""
    if not file.is_file():
        raise _failed(f"There is no file {file}.")
    try:
        address = f"{file.resolve().as_uri()}?mode=ro&immutable=1"
        with contextlib.closing(sqlite3.connect(address, uri=True)) as opened:
            (sound,) = opened.execute("PRAGMA quick_check(1)").fetchone()
            opened.execute("SELECT count(*) FROM templates, tenants WHERE 0").fetchone()
    except sqlite3.Error as error:
        raise _failed(f"{file} is no gallery: {type(error).__name__}.") from error
    if sound != "ok":
        raise _failed(f"{file} is damaged.")


def _failed(why: str) -> MienError:
    return MienError(Errors.GALLERY_UNAVAILABLE, why)
