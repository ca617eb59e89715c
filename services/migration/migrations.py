"""All that operators do with migrations; REST, gRPC and the command line only translate."""

from __future__ import annotations

import asyncio
import contextlib

from models.zoo import Zoo
from services.errors import Errors, MienError
from services.gallery import Gallery
from services.gallery.values import Job
from services.gateway.mapping_client import MappingClient
from services.migration import record as records
from services.migration.lease import Lease, is_held, leased, now
from services.migration.plan import Plan
from services.migration.planner import Planner, PlanOptions
from services.migration.record import Record, State
from services.migration.run import WISH, Engine, PauseWished, Run, Told, Tools
from services.migration.shadow import Tally, forget, tally_of
from services.migration.switching import Rollback, switch
from services.settings import Settings
from services.telemetry import get_logger

_log = get_logger(__name__)

_PATIENCE = 20.0
"""Seconds that `pause` waits for the batch at hand, and `start` for a run to begin or to let go."""

_LOOK = 0.1
_REFUSED = 1.0  # seconds after which a start that is refused has said so
_AT_WORK = (State.RUNNING, State.CAUGHT_UP)


class Migrations:
    """The migrations of one gallery. All of it belongs to one event loop.

    Every command may be given again: what is done already is not done twice.

    Args:
        gallery: to be migrated.
        mapping: the way to the maps.
        settings: sizes, times, and the default false-match rate.
        zoo: holds the maps' cards, where they are known here.
    """

    def __init__(
        self, gallery: Gallery, mapping: MappingClient, settings: Settings, zoo: Zoo | None = None
    ) -> None:
        self._gallery, self._settings = gallery, settings
        self._planner = Planner(gallery, mapping, settings.decision.default_fmr, zoo)
        self._tools = Tools(gallery, mapping, settings.migration)
        self._tasks: dict[str, asyncio.Task[Record]] = {}

    async def every(self) -> list[Record]:
        """All migrations that were ever planned, by id."""
        return await records.every(self._gallery)

    async def get(self, name: str) -> Record:
        """One migration.

        Raises:
            MienError: MIGRATION_UNKNOWN.
        """
        return await records.load(self._gallery, name)

    async def at_work(self, name: str) -> bool:
        """Whether somebody works on a migration now."""
        return await is_held(self._gallery, name)

    async def plan(self, options: PlanOptions | None = None) -> Plan:
        """Looks at gallery and map, and says what to expect. Only the plan itself is stored.

        Raises:
            MienError: GALLERY_EMPTY; MODEL_UNKNOWN for a map that is not served;
                IDENTITY_MISMATCH for one that takes other vectors than the live ones.
        """
        return await self._planner.plan(options or PlanOptions())

    async def run(
        self,
        name: str,
        *,
        rate: float | None = None,
        follow: bool = False,
        told: Told | None = None,
        engine: Engine | None = None,
    ) -> Record:
        """Runs a migration until it has caught up or is paused; goes on where it stopped.

        Args:
            name: id of the migration.
            rate: most templates per second; 0 for no limit, None for that of the settings.
            follow: stay, and move what is enrolled, until it is paused.
            told: hears of every batch.
            engine: maps elsewhere; None for the mapping service.

        Raises:
            MienError: MIGRATION_UNKNOWN, MIGRATION_BUSY, MIGRATION_STATE, or why it failed.
        """
        if (await self.get(name)).state is State.SWITCHED:
            return await self.get(name)
        async with leased(self._gallery, name, self._settings.migration.lease_seconds) as lease:
            await self._gallery.delete_job(WISH + name)
            run = await self._run(name, lease, rate, told)
            await run.work(follow=follow, engine=engine)
            return run.record

    async def start(self, name: str, *, rate: float | None = None) -> Record:
        """Runs a migration in the background, and follows it until it is paused or switched.

        Raises:
            MienError: MIGRATION_UNKNOWN, or MIGRATION_STATE.
        """
        record = await self._settled(name)
        task = self._tasks.get(name)
        if record.state is State.SWITCHED or (task is not None and not task.done()):
            return record
        await self._check_may_run(record)
        await self._gallery.delete_job(WISH + name)
        task = asyncio.create_task(self.run(name, rate=rate, follow=True))
        task.add_done_callback(_ended)
        self._tasks[name] = task
        await asyncio.wait({task}, timeout=_REFUSED)
        if task.done() and (error := task.exception()) is not None:
            raise error
        return await self._settled(name)

    async def take_up(self) -> None:
        """Goes on with what a process that has ended left at work."""
        for record in await self.every():
            if record.state in _AT_WORK and not await self.at_work(record.id):
                with contextlib.suppress(MienError):
                    await self.start(record.id)

    async def pause(self, name: str) -> Record:
        """Asks whoever runs a migration to stop after the batch at hand, and waits for it.

        Raises:
            MienError: MIGRATION_UNKNOWN.
        """
        record = await self.get(name)
        if record.state not in _AT_WORK:
            return record
        await self._gallery.put_job(Job(WISH + name, {}))
        end = now() + _PATIENCE
        while await self.at_work(name):  # until the lease is let go, which comes after the state
            if now() > end:
                return await self.get(name)
            await asyncio.sleep(_LOOK)
        record = await self.get(name)
        return await self._pause_what_rests(name) if record.state in _AT_WORK else record

    async def switch(self, name: str, *, accept_loss: bool = False) -> Record:
        """Catches up and makes the new model live.

        Raises:
            MienError: MIGRATION_UNKNOWN; MIGRATION_BEHIND, where it has never caught up;
                MIGRATION_BUSY, where another process runs it; MIGRATION_LOSES.
        """
        record = await self.get(name)
        if record.state is State.SWITCHED:
            return record
        if not record.reached_end or record.state is State.ROLLED_BACK:
            raise MienError(
                Errors.MIGRATION_BEHIND, "The migration has not caught up yet: run it first."
            )
        await self._leave(name)
        async with leased(self._gallery, name, self._settings.migration.lease_seconds) as lease:
            await self._gallery.delete_job(WISH + name)
            run = await self._run(name, lease)
            try:
                await switch(self._tools, run, accept_loss=accept_loss)
            except PauseWished as wish:
                await self._gallery.delete_job(WISH + name)
                raise MienError(
                    Errors.MIGRATION_STATE, "It was paused before it could be switched."
                ) from wish
            return run.record

    async def rollback(self, name: str, *, accept_loss: bool = False) -> Record:
        """Makes the old model live again; what was enrolled since is mapped back where it can be.

        Raises:
            MienError: MIGRATION_UNKNOWN; MIGRATION_STATE, before a switch; MIGRATION_LOSES.
        """
        record = await self.get(name)
        if record.state is State.ROLLED_BACK:
            return record
        if record.state is not State.SWITCHED:
            raise MienError(Errors.MIGRATION_STATE, "There was no switch to be taken back.")
        async with leased(self._gallery, name, self._settings.migration.lease_seconds) as lease:
            record = await self.get(name)
            await Rollback(self._tools, record, lease).work(accept_loss=accept_loss)
            return record

    async def shadow(self, name: str) -> Tally:
        """What the next model would have answered to live queries (`MIEN_MIGRATION__SHADOW`).

        Raises:
            MienError: MIGRATION_UNKNOWN.
        """
        return await tally_of(self._gallery, (await self.get(name)).target.space())

    async def discard(self, name: str) -> int:
        """Forgets a migration and deletes what it has made; returns how many templates.

        Raises:
            MienError: MIGRATION_UNKNOWN; MIGRATION_STATE, while its target is live.
        """
        await self._leave(name)
        async with leased(self._gallery, name, self._settings.migration.lease_seconds):
            record = await self.get(name)
            target, dropped = record.target.space(), 0
            if await self._gallery.live() == target:
                raise MienError(Errors.MIGRATION_STATE, "Its target is live; roll back first.")
            if any(one.space == target for one in await self._gallery.collections()):
                dropped = await self._gallery.drop_collection(target)
            await forget(self._gallery, target)
            for prefix in (records.PREFIX, WISH):
                await self._gallery.delete_job(prefix + name)
        return dropped

    async def close(self) -> None:
        """Stops what runs in the background; it is taken up by the next process."""
        for name in list(self._tasks):
            await self._leave(name)

    async def _settled(self, name: str) -> Record:
        """The record when a run in the background is not about to begin, nor to let go."""
        record, task = await self.get(name), self._tasks.get(name)
        if task is not None:
            end = now() + _PATIENCE
            plain = (*_AT_WORK, State.SWITCHED)
            while record.state not in plain and not task.done() and now() < end:
                await asyncio.wait({task}, timeout=_LOOK)
                record = await self.get(name)
        return record

    async def _leave(self, name: str) -> None:
        task = self._tasks.pop(name, None)
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _run(
        self, name: str, lease: Lease, rate: float | None = None, told: Told | None = None
    ) -> Run:
        record = await self.get(name)
        await self._check_may_run(record)
        settings = self._settings.migration
        return Run(self._tools, record, lease, settings.rate if rate is None else rate, told)

    async def _pause_what_rests(self, name: str) -> Record:
        """Pauses a migration whose runner is gone."""
        async with leased(self._gallery, name, self._settings.migration.lease_seconds):
            record = await self.get(name)
            if record.state in _AT_WORK:
                record.state = State.PAUSED
                await self._gallery.put_job(record.job())
            await self._gallery.delete_job(WISH + name)
            return record

    async def _check_may_run(self, record: Record) -> None:
        """Refuses a run whose source is not live, or whose target another map fills.

        Raises:
            MienError: MIGRATION_STATE.
        """
        if await self._gallery.live() != record.source.space():
            raise MienError(
                Errors.MIGRATION_STATE, f"{record.source.space().reference} is not live any more."
            )
        for other in await self.every():
            if other.id != record.id and other.target == record.target and other.written:
                raise MienError(
                    Errors.MIGRATION_STATE,
                    f"The same target is filled by {other.id}; discard that one first.",
                )


def _ended(task: asyncio.Task[Record]) -> None:
    """Logs how a run in the background ended; the record says it too."""
    if not task.cancelled() and (error := task.exception()) is not None:
        code = error.kind.code if isinstance(error, MienError) else type(error).__name__
        _log.error("a migration failed", code=code)
