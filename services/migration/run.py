"""A run: the source streamed through the map into the target, batch after batch.

Each batch is stored in one transaction with the place that the run has come to. A run that is
killed goes on from there; what it had mapped and not stored is mapped anew and was never seen.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from services.errors import Errors, MienError
from services.gallery import Gallery, Template
from services.gateway.mapping_client import MappingClient
from services.migration import metrics
from services.migration.lease import Lease, now
from services.migration.record import Failure, Record, State
from services.migration.shards import Shards
from services.migration.steps import Steps, collection
from services.settings import MigrationSettings
from services.telemetry import get_logger

_log = get_logger(__name__)

WISH = "migration-wish:"
"""Job in which somebody asks the run to pause; the run alone writes the record."""

_LAST = 0.2  # weight of the last batch in the speed that is shown
_NAP = 0.5  # seconds after which a run that waits looks whether it should pause

Told = Callable[[Record], None]


class Engine(Protocol):
    """What maps a gallery's templates other than by the mapping service, such as a cluster."""

    async def prepare(self, gallery: Gallery, record: Record) -> Shards:
        """Maps what is to be read."""
        ...


class PauseWished(Exception):  # noqa: N818 - not an error
    """Somebody asked for a pause."""


@dataclass(frozen=True)
class Tools:
    """What a run works with.

    Attributes:
        gallery: holds both spaces and the record.
        mapping: the way to the map.
        settings: sizes and times.
    """

    gallery: Gallery
    mapping: MappingClient
    settings: MigrationSettings


class Run:
    """Work on one migration, under its lease.

    Args:
        tools: what it works with.
        record: of the migration; it is kept up to date here.
        lease: of the migration.
        rate: most templates per second; 0 for no limit.
        told: hears of every batch.
    """

    def __init__(
        self,
        tools: Tools,
        record: Record,
        lease: Lease,
        rate: float = 0.0,
        told: Told | None = None,
    ) -> None:
        self.record = record
        self._gallery, self._settings = tools.gallery, tools.settings
        self._lease, self._rate, self._told = lease, rate, told
        self._steps = Steps(
            tools.gallery,
            tools.mapping,
            (record.source.space(), record.target.space()),
            record.map,
            record.map_sha256,
            tools.settings.patience_seconds,
            self._may_go_on,
        )
        self._batch = tools.settings.batch
        if rate > 0:  # about a batch a second, not a burst a minute
            self._batch = max(1, min(self._batch, int(rate)))
        self._started, self._read = now(), 0

    async def work(self, *, follow: bool = False, engine: Engine | None = None) -> None:
        """Runs until the target has caught up, or until a pause; what follows is stored as state.

        Args:
            follow: go on when it has caught up, and move what is enrolled, until a pause.
            engine: maps what is there now before it is read, elsewhere.

        Raises:
            MienError: why it failed; the record says so too.
        """
        try:
            await self._begin()
            if engine is None:
                await self.catch_up()
            else:
                await self._catch_up_ahead(engine)
            while follow:
                await self._nap(self._settings.follow_seconds)
                await self.catch_up(closely=False)
        except PauseWished:
            await self._stop(State.PAUSED)
            await self._gallery.delete_job(WISH + self.record.id)
        except MienError as error:
            if error.error is not Errors.MIGRATION_BUSY:  # else another writes the record
                self.record.failure = Failure(code=error.kind.code, detail=error.detail)
                await self._stop(State.FAILED)
            raise

    async def catch_up(self, *, closely: bool = True) -> None:
        """Moves all that the target has not got yet.

        Args:
            closely: look also whether the source's latest write was seen, which costs a count.
        """
        page = await self._next(self.record.cursor)
        while page or (closely and not await self._is_at_end()):
            # The next batch is read while this one is mapped and stored.
            after = page[-1].sequence if page else self.record.cursor
            ahead = asyncio.create_task(self._next(after))
            try:
                if page:
                    await self._move(page)
                page = await ahead
            finally:
                ahead.cancel()
                await asyncio.gather(ahead, return_exceptions=True)
        if self.record.state is not State.CAUGHT_UP:
            self.record.reached_end = True
            await self._steps.patiently(lambda: self._save(State.CAUGHT_UP))

    async def _catch_up_ahead(self, engine: Engine) -> None:
        """Catches up with what an engine has mapped beforehand, and then forgets that."""
        shards = await engine.prepare(self._gallery, self.record)
        self._steps.ahead = shards
        await self.catch_up()
        self._steps.ahead = None
        await asyncio.to_thread(shards.delete)

    async def _begin(self) -> None:
        record = self.record
        source, target = self._steps.source, self._steps.target
        found = await self._steps.patiently(self._gallery.collections)
        if not any(one.space == target for one in found):
            await self._steps.patiently(lambda: self._gallery.create_collection(target))
            self._forget_progress()  # of an earlier run, whose collection was dropped since
        total = (await self._steps.patiently(lambda: collection(self._gallery, source))).templates
        record.total = max(total, record.read)
        record.failure, record.switched_after, record.back = None, None, None
        await self._steps.patiently(lambda: self._save(State.RUNNING))
        self._started = now()

    async def _move(self, page: Sequence[Template]) -> None:
        record, start = self.record, now()
        native = [one for one in page if not one.map]  # a mapped one is never mapped on
        made = await self._steps.mapped(native)
        sums = (
            record.written + len(made),
            record.weak + sum(one.confidence < record.weak_below for one in made),
            record.confidence_sum + sum(one.confidence for one in made),
        )
        record.written, record.weak, record.confidence_sum = sums
        record.read += len(page)
        record.second_hand += len(page) - len(native)
        record.cursor = page[-1].sequence
        record.total = max(record.total, record.read)
        stored = await self._steps.store(made, record.job())
        # How many were left out is known only now, and is stored with the next batch.
        record.written -= stored.skipped
        record.skipped += stored.skipped
        self._count(stored.written, stored.skipped, len(page) - len(native))
        spent = max(now() - start, 1e-6)
        record.seconds += spent
        await self._slow_down(len(page))
        speed = len(page) / max(now() - start, 1e-6)
        record.rate += (speed - record.rate) * (_LAST if record.rate else 1.0)
        self._show()

    async def _is_at_end(self) -> bool:
        """Whether nothing is left. What was deleted since it was written counts as seen."""
        end = await self._steps.end_of_source()
        if end > self.record.cursor and not await self._next(self.record.cursor, 1):
            self.record.cursor = end
        return end <= self.record.cursor

    async def _next(self, after: int, limit: int | None = None) -> list[Template]:
        return await self._steps.read(after, limit or self._batch)

    async def _slow_down(self, count: int) -> None:
        self._read += count
        if self._rate > 0:
            await self._nap(self._started + self._read / self._rate - now())

    async def _nap(self, seconds: float) -> None:
        end = now() + seconds
        while (left := end - now()) > 0:
            await self._steps.patiently(self._nothing)  # looks whether to go on
            await asyncio.sleep(min(left, _NAP))

    async def _nothing(self) -> None:
        """What is done while there is nothing to do."""

    async def _may_go_on(self) -> None:
        await self._lease.confirm()
        if await self._gallery.job(WISH + self.record.id) is not None:
            raise PauseWished

    async def _stop(self, state: State) -> None:
        try:
            await self._save(state)
        except MienError as error:
            _log.warning("a migration's state could not be stored", code=error.kind.code)

    async def _save(self, state: State) -> None:
        self.record.state = state
        await self._gallery.put_job(self.record.job())
        self._show()

    def _show(self) -> None:
        metrics.show(self.record)
        if self._told is not None:
            self._told(self.record)

    def _count(self, written: int, skipped: int, second_hand: int) -> None:
        outcomes = (("written", written), ("skipped", skipped), ("second_hand", second_hand))
        for outcome, count in outcomes:
            metrics.TEMPLATES.labels(self.record.map, outcome).inc(count)

    def _forget_progress(self) -> None:
        record = self.record
        record.cursor = record.read = record.written = record.skipped = 0
        record.second_hand = record.weak = 0
        record.confidence_sum = record.seconds = record.rate = 0.0
        record.reached_end = False
