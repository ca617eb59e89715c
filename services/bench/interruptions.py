"""A migration that is killed again and again, beside the same migration left alone."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from services.gallery import Gallery, Space, Template
from services.gallery.open import open_gallery
from services.migration.record import PREFIX, Record, State
from services.settings import Settings

_START_SECONDS = 120.0
_LOOK = 0.01  # seconds between two looks at a run's progress
_PAGE = 2000
_BATCHES_EACH = 4  # a run between two kills has at least so many to be killed in
_SECONDS_EACH = 1.0  # a run between two kills takes at least so long, or it is slowed down
_SHARE = 0.7  # of its part of the templates that a run moves at most: some are left for the last


@dataclass(frozen=True)
class Survived:
    """What became of a migration that was killed.

    Attributes:
        killed: processes that were killed while the migration was not at its end.
        read: templates read when each of them was killed.
        identical: whether the target holds what an undisturbed run stores, vector by vector, bit by
            bit, each once and in the same order.
        compared: templates that were compared.
    """

    killed: int
    read: tuple[int, ...]
    identical: bool
    compared: int


async def killed_and_resumed(
    settings: Settings, quiet: Path, disturbed: Path, migration: str, kills: int, seconds: float
) -> Survived:
    """Runs a migration in processes that are killed at random moments, then to its end.

    Args:
        settings: of the runs.
        quiet: database of a gallery whose migration was run undisturbed.
        disturbed: a copy of it from before the run.
        migration: its id.
        kills: processes to kill.
        seconds: that the undisturbed run took; the killed ones together work less than that. Where
            it was too short to be killed so often, they run slower.

    Raises:
        RuntimeError: a run ends in an error.
    """
    rng = random.Random()  # noqa: S311 - moments, not secrets
    batch = settings.migration.batch
    rate = settings.migration.rate
    each = seconds / (kills + 1)
    if kills:
        total = _record(disturbed, migration).total
        batch = max(1, min(batch, total // (_BATCHES_EACH * (kills + 1))))
        if each < _SECONDS_EACH:
            each = _SECONDS_EACH
            rate = total / (each * (kills + 1))
    reads = []
    for _ in range(kills):
        wait = rng.uniform(0.0, _SHARE * each)
        read = await asyncio.to_thread(_killed, disturbed, migration, batch, rate, wait)
        if read is not None:
            reads.append(read)
    await asyncio.to_thread(_finished, disturbed, migration, batch)
    target = _record(disturbed, migration).target.space()
    async with _opened(settings, quiet) as one, _opened(settings, disturbed) as other:
        identical, compared = await _identical(one, other, target)
    return Survived(len(reads), tuple(reads), identical, compared)


def copied(path: Path, folder: Path) -> Path:
    """Copies a database that nobody holds open, and its key, into a new folder."""
    shutil.copytree(path.parent, folder)
    return folder / path.name


def _killed(path: Path, migration: str, batch: int, rate: float, wait: float) -> int | None:
    """Resumes a run, and kills it some time after it has stored something.

    Returns:
        How many templates had been read; None where the run was over before.
    """
    before = _record(path, migration).read
    process = _resumed(path, migration, batch, rate)
    try:
        deadline = time.monotonic() + _START_SECONDS
        while _record(path, migration).read == before:
            if process.poll() is not None or time.monotonic() > deadline:
                break
            time.sleep(_LOOK)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(wait)
    finally:
        process.kill()
        _, told = process.communicate()
    record = _record(path, migration)
    if record.state is State.CAUGHT_UP:
        return None
    if record.read == before:
        raise RuntimeError(f"the run moved nothing: {told.strip()}")
    return record.read


def _finished(path: Path, migration: str, batch: int) -> None:
    process = _resumed(path, migration, batch)
    _, told = process.communicate()
    if process.returncode:
        raise RuntimeError(f"the run failed: {told.strip()}")


def _resumed(
    path: Path, migration: str, batch: int, rate: float | None = None
) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "services.cli", "migrate", "resume", migration, "--json"]
    settings = {"MIEN_GALLERY__URI": f"sqlite:{path}", "MIEN_MIGRATION__BATCH": str(batch)}
    if rate is not None:
        settings["MIEN_MIGRATION__RATE"] = str(rate)
    return subprocess.Popen(  # noqa: S603 - this package's own command
        command,
        env={**os.environ, **settings},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def _record(path: Path, migration: str) -> Record:
    """Where a migration stands, from the file: the gallery itself belongs to the run's process."""
    with contextlib.closing(
        sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=_START_SECONDS)
    ) as connection:
        (state,) = connection.execute(
            "SELECT state FROM jobs WHERE name = ?", (PREFIX + migration,)
        ).fetchone()
    return Record.model_validate(json.loads(state))


@contextlib.asynccontextmanager
async def _opened(settings: Settings, path: Path) -> AsyncIterator[Gallery]:
    gallery = await open_gallery(settings, f"sqlite:{path}")
    try:
        yield gallery
    finally:
        await gallery.close()


async def _identical(one: Gallery, other: Gallery, space: Space) -> tuple[bool, int]:
    """Whether two galleries hold the same templates of a space, and how many were compared."""
    ends, compared = [0, 0], 0
    while True:
        pages = [
            await gallery.scan(space, end, _PAGE)
            for gallery, end in zip((one, other), ends, strict=True)
        ]
        if [_told(row) for row in pages[0]] != [_told(row) for row in pages[1]]:
            return False, compared
        if not pages[0]:
            return True, compared
        compared += len(pages[0])
        ends = [page[-1].sequence for page in pages]


def _told(one: Template) -> tuple[object, ...]:
    """All of a template but its sequence number, which counts what other writes there were."""
    return (
        one.tenant,
        one.subject_id,
        one.id,
        one.vector.tobytes(),
        one.map,
        one.confidence,
        one.quality,
        one.pictures,
        one.created,
    )
