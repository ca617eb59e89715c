"""Who works on a migration: one at a time, whatever becomes of processes and clocks.

The gallery stores jobs but does not compare and set, and no two machines agree on the time. So
whoever wants a lease that is taken watches it by a clock of its own: a holder that lives shows it
by a count that rises. A holder that was a process of this machine and is no more is not waited for.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from services.errors import Errors, MienError
from services.gallery import Gallery, Job
from services.telemetry import get_logger

_log = get_logger(__name__)

PREFIX = "migration-lease:"
_SETTLE = 0.2  # seconds in which two who took a free lease at once see each other
_BEATS = 3  # in the time after which a lease that is not renewed is free
_LOOKS = 10  # at a lease that may be dead, in that time


class Lease:
    """The right to work on one migration.

    Args:
        gallery: keeps it.
        migration: id of the migration.
        seconds: after which a lease that is not renewed is free.
    """

    def __init__(self, gallery: Gallery, migration: str, seconds: float) -> None:
        self._gallery = gallery
        self._name = PREFIX + migration
        self._seconds = seconds
        self._token = uuid.uuid4().hex
        self._count = 0
        self._renewed = now()

    async def confirm(self) -> None:
        """Makes sure that the lease is still held, as before every write.

        Raises:
            MienError: MIGRATION_BUSY; another has taken over.
        """
        if now() - self._renewed > self._seconds / 2:
            await self._renew()

    async def _take(self) -> None:
        held = await self._read()
        if held is not None and not _is_dead(held):
            await self._watch(held)
        await self._write()
        await asyncio.sleep(_SETTLE)
        await self._check()

    async def _watch(self, held: dict[str, Any]) -> None:
        """Returns when a lease has not been renewed for its time.

        Raises:
            MienError: MIGRATION_BUSY; it is alive.
        """
        start = now()
        while now() - start < max(self._seconds, float(held.get("seconds", 0.0))):
            await asyncio.sleep(self._seconds / _LOOKS)
            seen = await self._read()
            if seen is None:
                return
            if seen != held:
                raise _busy()

    async def _keep(self) -> None:
        """Renews the lease again and again, until it is lost or let go."""
        while True:
            await asyncio.sleep(self._seconds / _BEATS)
            try:
                await self._renew()
            except MienError as error:
                if error.error is Errors.MIGRATION_BUSY:
                    return  # the next `confirm` says so where it matters
                _log.warning("a lease could not be renewed", code=error.kind.code)

    async def _renew(self) -> None:
        await self._check()
        await self._write()

    async def _check(self) -> None:
        held = await self._read()
        if held is None or held.get("token") != self._token:
            self._renewed = -float("inf")
            raise _busy()

    async def _write(self) -> None:
        self._count += 1
        started = now()
        state = {
            "token": self._token,
            "count": self._count,
            "seconds": self._seconds,
            **_process(os.getpid()),
        }
        await self._gallery.put_job(Job(self._name, state))
        self._renewed = started

    async def _release(self) -> None:
        held = await self._read()
        if held is not None and held.get("token") == self._token:
            await self._gallery.delete_job(self._name)

    async def _read(self) -> dict[str, Any] | None:
        job = await self._gallery.job(self._name)
        return None if job is None else dict(job.state)


@asynccontextmanager
async def leased(gallery: Gallery, migration: str, seconds: float) -> AsyncIterator[Lease]:
    """Holds the lease of a migration for a block of code.

    Raises:
        MienError: MIGRATION_BUSY; another works on it.
    """
    lease = Lease(gallery, migration, seconds)
    await lease._take()  # noqa: SLF001 - only here is it taken
    keeping = asyncio.create_task(lease._keep())  # noqa: SLF001
    try:
        yield lease
    finally:
        keeping.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await keeping
        with contextlib.suppress(MienError):  # it runs out by itself
            await asyncio.shield(lease._release())  # noqa: SLF001


async def is_held(gallery: Gallery, migration: str) -> bool:
    """Whether somebody seems to work on a migration."""
    job = await gallery.job(PREFIX + migration)
    return job is not None and not _is_dead(dict(job.state))


def now() -> float:
    """Seconds of a clock that nobody sets, and that goes on while the machine sleeps."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(clock)


def _busy() -> MienError:
    return MienError(
        Errors.MIGRATION_BUSY, "Another process works on this migration.", retry_after=5.0
    )


def _process(number: int) -> dict[str, Any]:
    """What tells a process from all others, where the system tells it."""
    with contextlib.suppress(OSError, IndexError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        where = f"{boot} {Path('/proc/self/ns/pid').readlink()}"
        return {"where": where, "process": number, "started": _started(number)}
    return {}


def _is_dead(held: dict[str, Any]) -> bool:
    """Whether the holder was a process of this machine that has ended."""
    here = _process(os.getpid())
    if not here or held.get("where") != here["where"]:
        return False
    try:
        return bool(_started(int(held["process"])) != held["started"])
    except (OSError, IndexError):
        return True


def _started(number: int) -> str:
    """When a process was started, in the system's own count."""
    stat = Path(f"/proc/{number}/stat").read_text(encoding="utf-8", errors="replace")
    fields = stat.rpartition(")")[2].split()
    if fields[0] == "Z":
        raise OSError("it has ended")
    return fields[19]
