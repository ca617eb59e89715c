"""What the rest of Mien asks of the audit log: to note what is done, before a change is made."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from services.audit.anchor import AnchorKey, load_key
from services.audit.caller import MIEN, caller, use_caller
from services.audit.log import AuditLog
from services.audit.record import Action, Entry
from services.errors import Errors, MienError
from services.gallery.embedded.wrapping import wrappers
from services.settings import Settings
from services.telemetry import current_request_id, get_logger
from services.telemetry.metrics import AUDIT_FAILURES

_log = get_logger(__name__)
_SQLITE = "sqlite:"
_BEGUN, _DONE = "begun", "done"
_CANCELLED, _FAILED = "cancelled", "failed"


@dataclass(frozen=True)
class Place:
    """Where a log is: its folder, and the database whose master key wraps its key."""

    folder: Path
    database: Path


def place_of(settings: Settings, uri: str = "") -> Place:
    """Where the log of a gallery is.

    Args:
        settings: of audit and gallery.
        uri: of the gallery, as `MIEN_GALLERY__URI`.
    """
    address = uri or settings.gallery.uri or f"{_SQLITE}{settings.home / 'gallery.sqlite3'}"
    if address.startswith(_SQLITE):
        database = Path(address.removeprefix(_SQLITE))
        usual = database.with_name(database.name + ".audit")
    else:  # no database here: the master key is the settings', or audit-log.key
        usual, database = settings.home / "audit", settings.home / "audit-log"
    return Place(settings.audit.folder or usual, database)


def anchor_key(settings: Settings, place: Place) -> AnchorKey:
    """The key of a log's anchors; both are made where they are not there.

    Raises:
        MienError: AUDIT_UNAVAILABLE.
    """
    try:
        place.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return load_key(place.folder, wrappers(settings.gallery, place.database))
    except OSError as error:
        raise _unavailable() from error


def _unavailable() -> MienError:
    return MienError(Errors.AUDIT_UNAVAILABLE, "The audit log cannot be written.", retry_after=5.0)


@dataclass
class Searched:
    """What a search writes down when it ends.

    Attributes:
        counts: how many faces, templates and so on.
        subjects: whom it named; kept only where the settings want it.
    """

    counts: dict[str, int] = field(default_factory=dict)
    subjects: list[str] = field(default_factory=list)


class Trail:
    """The way to the audit log. It is opened when the first record is written.

    Args:
        settings: of the log.
        uri: of the gallery that it is about, as `MIEN_GALLERY__URI`.
    """

    def __init__(self, settings: Settings, uri: str = "") -> None:
        self.settings = settings.audit
        self.place = place_of(settings, uri)
        self._all = settings
        self._log: AuditLog | None = None
        self._key: AnchorKey | None = None
        self._opening = asyncio.Lock()

    async def note(
        self,
        action: Action,
        tenant: str = "",
        subjects: Sequence[str] = ("",),
        *,
        outcome: str = _DONE,
        counts: Mapping[str, int] | None = None,
        about: Mapping[str, Any] | None = None,
    ) -> None:
        """Writes down what was done, for each of some subjects.

        Raises:
            MienError: AUDIT_UNAVAILABLE, where the log is required.
        """
        await self._append(self._entries(action, tenant, subjects, outcome, counts, about))

    @asynccontextmanager
    async def change(
        self,
        action: Action,
        tenant: str = "",
        subjects: Sequence[str] = ("",),
        *,
        counts: Mapping[str, int] | None = None,
        about: Mapping[str, Any] | None = None,
    ) -> AsyncIterator[dict[str, int]]:
        """Writes down that a change begins, and how it ended.

        The beginning is on the disk before the block runs: no change is without a record, whatever
        becomes of the process.

        Yields:
            Counts for the record of the end, which the block may add to.

        Raises:
            MienError: AUDIT_UNAVAILABLE, where the log is required; nothing was changed.
        """
        entries = self._entries(action, tenant, subjects, _BEGUN, counts, about)
        numbers = await self._append(entries)
        done: dict[str, int] = {}
        outcome = _FAILED
        try:
            yield done
            outcome = _DONE
        except MienError as error:
            outcome = error.kind.code
            raise
        except asyncio.CancelledError:
            outcome = _CANCELLED
            raise
        finally:
            ends = [
                replace(one, outcome=outcome, of=number, counts={**one.counts, **done})
                for one, number in zip(entries, numbers or [0] * len(entries), strict=True)
            ]
            await self._end(ends, wait=outcome != _CANCELLED)

    @asynccontextmanager
    async def search(
        self, action: Action, tenant: str, subjects: Sequence[str] = ("",)
    ) -> AsyncIterator[Searched]:
        """Writes down a search when it has ended, before anybody is told what it found.

        Raises:
            MienError: AUDIT_UNAVAILABLE, where the log is required.
        """
        told = Searched()
        if not self.settings.searches:
            yield told
            return
        try:
            yield told
        except MienError as error:
            ends = self._entries(action, tenant, subjects, error.kind.code, None, None)
            await self._end(ends, wait=True)
            raise
        about = {"subjects": told.subjects} if self.settings.candidates and told.subjects else {}
        await self.note(action, tenant, subjects, counts=told.counts, about=about)

    async def refused(self, code: str, tenant: str = "") -> None:
        """Writes down that the caller was turned away; nobody waits for it, nor for a broken log.

        Args:
            code: of the error that the caller gets.
            tenant: that was named, if it is a valid one.
        """
        entries = self._entries(Action.ACCESS_REFUSED, tenant, [""], code, None, None)
        await self._end(entries, wait=False)

    async def policy(self) -> None:
        """Writes down the rules that a gateway starts with; nothing waits for them."""
        rules = {
            "retention": self._all.retention.model_dump(),
            "audit": self._all.audit.model_dump(exclude={"folder"}),
        }
        with use_caller(MIEN):
            await self._end(self._entries(Action.POLICY, "", [""], _DONE, None, rules), wait=True)

    async def close(self) -> None:
        """Writes what waits and lets the file go."""
        log, self._log = self._log, None
        if log is not None:
            await asyncio.to_thread(log.close)

    def key(self) -> AnchorKey:
        """The key of the log's anchors and pseudonyms; reads files, or asks a command.

        Raises:
            MienError: AUDIT_UNAVAILABLE.
        """
        return self._key or anchor_key(self._all, self.place)

    def pseudonym(self, key: AnchorKey, tenant: str, subject: str) -> str:
        """A subject's id as the log keeps it."""
        if not subject or self.settings.subjects == "plain":
            return subject
        return key.pseudonym(tenant, subject)

    def _entries(
        self,
        action: Action,
        tenant: str,
        subjects: Sequence[str],
        outcome: str,
        counts: Mapping[str, int] | None,
        about: Mapping[str, Any] | None,
    ) -> list[Entry]:
        who, request = caller.get(), current_request_id()
        return [
            Entry(action, who, tenant, one, outcome, request, counts or {}, 0, about or {})
            for one in subjects
        ]

    async def _append(self, entries: Sequence[Entry]) -> list[int]:
        if not self.settings.enabled:
            return []
        try:
            return await asyncio.wrap_future(await self._written(entries))
        except (OSError, MienError) as error:
            _log.error("the audit log cannot be written", error=type(error).__name__)
            AUDIT_FAILURES.inc()
            if self.settings.required:
                raise _unavailable() from error
            return []

    async def _end(self, entries: Sequence[Entry], *, wait: bool) -> None:
        """Writes how a change ended; what is done is not undone where that fails."""
        if not self.settings.enabled:
            return
        try:
            answer = await self._written(entries)
            if wait:
                await asyncio.wrap_future(answer)
        except (OSError, MienError) as error:
            _log.error("the audit log lacks a record", error=type(error).__name__)
            AUDIT_FAILURES.inc()

    async def _written(self, entries: Sequence[Entry]) -> Future[list[int]]:
        if self._log is None or self._key is None:
            async with self._opening:
                if self._log is None:
                    self._log = await asyncio.to_thread(self._open)
        assert self._key is not None  # noqa: S101 - set where the log is opened
        key = self._key
        return self._log.append([self._kept(key, one) for one in entries])

    def _kept(self, key: AnchorKey, entry: Entry) -> Entry:
        """An entry as the log keeps it: with pseudonyms where they are wanted."""

        def kept(subject: str) -> str:
            return self.pseudonym(key, entry.tenant, subject)

        about = dict(entry.about)
        if "subjects" in about:
            about["subjects"] = [kept(one) for one in about["subjects"]]
        return replace(entry, subject=kept(entry.subject), about=about)

    def _open(self) -> AuditLog:
        self._key = anchor_key(self._all, self.place)
        return AuditLog(self.place.folder, self._key, self.settings.anchor_seconds)
