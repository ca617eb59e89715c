"""One run of retention: what is due, whether the clock may be trusted, and the deletions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from services.audit.caller import use_caller
from services.audit.record import Action
from services.audit.trail import Trail
from services.errors import Errors, MienError
from services.gallery import DeletionReport, Gallery, Job, Space, Subject
from services.migration.lease import Lease, leased
from services.migration.record import PREFIX, State
from services.retention.clock import Clock, jump
from services.settings import RetentionRules, RetentionSettings
from services.telemetry import get_logger

_log = get_logger(__name__)
_JOB = "retention"
_LEASE_SECONDS = 15.0
_PAGE = 500
_DAY = 86_400.0
_AT_WORK = (State.PLANNED, State.RUNNING, State.PAUSED, State.CAUGHT_UP, State.FAILED)
WHO = "mien:retention"


@dataclass(frozen=True)
class Due:
    """What is to be deleted.

    Attributes:
        rule: name of the setting that asks for it.
        since: from when its time is counted, seconds since the epoch.
        tenant: whose subject; empty for a collection.
        subject_id: which subject, with all its templates; empty for a collection.
        space: whose collection, of all tenants; None for a subject.
    """

    rule: str
    since: float
    tenant: str = ""
    subject_id: str = ""
    space: Space | None = None


@dataclass
class Run:
    """What became of a run.

    Attributes:
        due: what was found.
        deleted: the reports of the subjects that were deleted.
        dropped: how many templates went with each collection.
        held: why nothing was deleted; empty otherwise.
        dry: nothing was to be deleted.
    """

    due: list[Due] = field(default_factory=list)
    deleted: list[DeletionReport] = field(default_factory=list)
    dropped: dict[str, int] = field(default_factory=dict)
    held: str = ""
    dry: bool = False


class Retention:
    """The rules of one gallery.

    Args:
        gallery: to delete in; audited.
        settings: the rules.
        trail: the way to the audit log.
        clock: of this machine.
    """

    def __init__(
        self,
        gallery: Gallery,
        settings: RetentionSettings,
        trail: Trail,
        clock: Clock | None = None,
    ) -> None:
        self._gallery, self._settings, self._trail = gallery, settings, trail
        self._clock = clock or Clock()

    async def due(self) -> list[Due]:
        """What the rules ask to delete now; nothing is changed."""
        now = self._clock.wall()
        found = [one async for one in self._superseded(now)]
        for tenant in await self._gallery.tenants():
            rules = self._settings.tenants.get(tenant, self._settings)
            if rules.subject_days or rules.withdrawn_days:
                found += [one async for one in self._of_tenant(tenant, rules, now)]
        return found

    async def run(self, *, dry: bool = False, accept_clock: bool = False) -> Run:
        """Deletes what is due, if the clock can be trusted; each deletion is audited.

        The first run only reads the clocks: the second has something to compare with.

        Args:
            dry: only say what is due.
            accept_clock: an operator has looked at the clock and finds it right.

        Raises:
            MienError: MIGRATION_BUSY; another process is at it.
        """
        if dry:
            return Run(await self.due(), dry=True)
        async with leased(self._gallery, _JOB, _LEASE_SECONDS) as lease:
            held = "" if accept_clock else await self._doubt()
            if held:
                _log.warning("retention deletes nothing", reason=held)
                return Run(await self.due(), held=held)
            await self._gallery.put_job(Job(_JOB, {"clock": self._clock.read()}))
            with use_caller(WHO):
                return await self._delete(await self.due(), lease)

    async def _doubt(self) -> str:
        """Why the clock is not to be trusted; empty if it is."""
        job = await self._gallery.job(_JOB)
        reading = self._clock.read()
        if job is None:
            await self._gallery.put_job(Job(_JOB, {"clock": reading}))
            return "this is the first run: the next one compares its clock with this one's"
        settings = self._settings
        return jump(job.state["clock"], reading, settings.clock_seconds, settings.gap_days)

    async def _delete(self, due: list[Due], lease: Lease) -> Run:
        run = Run(due)
        if not due:
            return run
        rules = {rule: sum(one.rule == rule for one in due) for rule in {one.rule for one in due}}
        async with self._trail.change(Action.RETENTION, counts=rules) as counts:
            for one in due:
                await lease.confirm()
                try:
                    if one.space is not None:
                        dropped = await self._gallery.drop_collection(one.space)
                        run.dropped[one.space.reference] = dropped
                        continue
                    report = await self._gallery.delete_subject(one.tenant, one.subject_id)
                    run.deleted.append(report)
                except MienError as error:  # somebody else was faster
                    if error.error not in (Errors.SUBJECT_UNKNOWN, Errors.COLLECTION_UNKNOWN):
                        raise
            counts["subjects"] = len(run.deleted)
            counts["unproven"] = sum(not one.verified for one in run.deleted)
        _log.info("retention has deleted", subjects=len(run.deleted), dropped=len(run.dropped))
        return run

    async def _of_tenant(
        self, tenant: str, rules: RetentionRules, now: float
    ) -> AsyncIterator[Due]:
        cursor = ""
        while True:
            page = await self._gallery.subjects(tenant, cursor, _PAGE)
            for subject in page.rows:
                due = await self._of_subject(tenant, subject, rules, now)
                if due is not None:
                    yield due
            cursor = page.cursor
            if not cursor:
                return

    async def _of_subject(
        self, tenant: str, subject: Subject, rules: RetentionRules, now: float
    ) -> Due | None:
        # A withdrawal is the last change of the subject itself, unless it was renamed since.
        withdrawn = rules.withdrawn_days > 0 and not subject.consent
        if withdrawn and subject.updated < now - rules.withdrawn_days * _DAY:
            return Due("withdrawn_days", subject.updated, tenant, subject.id)
        if rules.subject_days and subject.updated < now - rules.subject_days * _DAY:
            templates = await self._gallery.templates(tenant, subject.id)
            # A template that a map made is no sign of the person.
            seen = [one.created for one in templates if not one.map]
            since = max([subject.updated, *seen])
            if since < now - rules.subject_days * _DAY:
                return Due("subject_days", since, tenant, subject.id)
        return None

    async def _superseded(self, now: float) -> AsyncIterator[Due]:
        """Collections that are not live, long after the last migration had to do with them."""
        days = self._settings.superseded_days
        jobs = [one for one in await self._gallery.jobs() if one.name.startswith(PREFIX)]
        if not days or any(one.state.get("state") in _AT_WORK for one in jobs):
            return
        for one in await self._gallery.collections():
            if one.live:
                continue
            newest = await self._gallery.scan(one.space, one.last - 1, 1) if one.templates else []
            since = max(
                [job.updated for job in jobs] + [row.created for row in newest], default=now
            )
            if since < now - days * _DAY:
                yield Due("superseded_days", since, space=one.space)
