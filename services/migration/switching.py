"""The switch to the new model and the way back, and who would be lost by either."""

from __future__ import annotations

from dataclasses import dataclass

from services.errors import Errors, MienError
from services.gallery import Gallery, Space, Template
from services.gateway.mapping_client import reference
from services.migration.lease import Lease
from services.migration.record import Record, State
from services.migration.run import Run, Tools
from services.migration.spaces import leads
from services.migration.steps import Steps, collection
from services.rpc.mien.v1 import mapping_pb2

_TRIES = 20
"""Templates that come between the last look and the switch send it back; so often it tries."""


@dataclass(frozen=True)
class Loss:
    """What a switch would leave behind.

    Attributes:
        templates: that the space to be switched to does not hold, and no map brings there.
        subjects: (tenant, id) of those that are left with no template there.
    """

    templates: int
    subjects: frozenset[tuple[str, str]]


async def switch(tools: Tools, run: Run, *, accept_loss: bool) -> None:
    """Catches up and makes the target live, in one step.

    Args:
        tools: what it works with.
        run: of the migration, under its lease.
        accept_loss: switch even if subjects are left behind.

    Raises:
        MienError: MIGRATION_LOSES; MIGRATION_BEHIND, where templates came faster than they could
            be moved.
    """
    gallery, record = tools.gallery, run.record
    source, target = record.source.space(), record.target.space()
    await run.catch_up()
    if record.second_hand and not accept_loss:
        _refuse(await _left_behind(gallery, source, target, tools.settings.batch))
    for _ in range(_TRIES):
        await run.catch_up()
        # Stored before the switch: a process that is killed just after it has left all that a
        # rollback needs.
        record.switched_after = (await collection(gallery, target)).last
        await gallery.put_job(record.job())
        try:
            await gallery.switch(target, caught_up=record.cursor)
        except MienError as error:
            if error.error is not Errors.MIGRATION_BEHIND:
                raise
            continue
        record.state = State.SWITCHED
        await gallery.put_job(record.job())
        return
    raise _too_fast()


async def _left_behind(gallery: Gallery, source: Space, target: Space, batch: int) -> Loss:
    """What the source holds second hand, and the target does not hold at all."""
    return await _missing(gallery, source, target, 0, batch, mapped=True)


class Rollback:
    """Makes the source live again, and takes along what was enrolled since the switch.

    Args:
        tools: what it works with.
        record: of the migration.
        lease: of the migration.
    """

    def __init__(self, tools: Tools, record: Record, lease: Lease) -> None:
        self._tools, self._record, self._lease = tools, record, lease
        self._source, self._target = record.source.space(), record.target.space()

    async def work(self, *, accept_loss: bool) -> None:
        """Goes back.

        Args:
            accept_loss: even if subjects would no longer be found.

        Raises:
            MienError: MIGRATION_LOSES, where no map leads back and it matters; MIGRATION_BEHIND.
        """
        gallery, record = self._tools.gallery, self._record
        since = record.switched_after or 0
        way = await self._way_back()
        if way is None:
            loss = await _missing(
                gallery, self._target, self._source, since, self._tools.settings.batch, mapped=False
            )
            if not accept_loss:
                _refuse(loss)
            await gallery.switch(self._source)
        else:
            await self._carry_and_switch(way, since)
        record.state = State.ROLLED_BACK
        await gallery.put_job(record.job())

    async def _carry_and_switch(self, way: mapping_pb2.MapInfo, since: int) -> None:
        gallery, record = self._tools.gallery, self._record
        steps = Steps(
            gallery,
            self._tools.mapping,
            (self._target, self._source),
            reference(way),
            way.weights_sha256,
            self._tools.settings.patience_seconds,
            self._lease.confirm,
        )
        record.back = since if record.back is None else record.back
        for _ in range(_TRIES):
            await self._carry(steps)
            try:
                await gallery.switch(self._source, caught_up=record.back)
            except MienError as error:
                if error.error is not Errors.MIGRATION_BEHIND:
                    raise
                continue
            return
        raise _too_fast()

    async def _carry(self, steps: Steps) -> None:
        """Maps back what was enrolled natively since; ends when nothing is left."""
        record = self._record
        while True:
            end = await steps.end_of_source()
            page = await steps.read(record.back or 0, self._tools.settings.batch)
            if not page:
                record.back = max(record.back or 0, end)
                return
            made = await steps.mapped([one for one in page if not one.map])
            record.back = page[-1].sequence
            record.carried_back += len(made)
            stored = await steps.store(made, record.job())
            record.carried_back -= stored.skipped

    async def _way_back(self) -> mapping_pb2.MapInfo | None:
        """A map from the target to the source, if one is served."""
        try:
            served = await self._tools.mapping.refresh()
        except MienError:
            return None  # going back must not depend on a service that may be why one goes back
        ways = [one for one in served if leads(one, self._target, self._source)]
        return ways[-1] if ways else None


async def _missing(
    gallery: Gallery, there: Space, here: Space, after: int, batch: int, *, mapped: bool
) -> Loss:
    """Templates of one space, mapped or native ones, that are not in another.

    Args:
        gallery: holds both.
        there: the space that is left.
        here: the space that is switched to.
        after: only templates above this sequence number.
        batch: that are read at once.
        mapped: which of the two is meant.
    """
    templates = 0
    subjects: set[tuple[str, str]] = set()
    while page := await gallery.scan(there, after, batch):
        after = page[-1].sequence
        for one in page:
            if bool(one.map) == mapped:
                held = await _held(gallery, one, here)
                templates += one.id not in held
                if not held:
                    subjects.add((one.tenant, one.subject_id))
    return Loss(templates, frozenset(subjects))


async def _held(gallery: Gallery, one: Template, space: Space) -> set[str]:
    found = await gallery.templates(one.tenant, one.subject_id)
    return {other.id for other in found if other.space == space}


def _refuse(loss: Loss) -> None:
    """Refuses what would lose subjects.

    Raises:
        MienError: MIGRATION_LOSES; it says how many.
    """
    if loss.subjects:
        raise MienError(
            Errors.MIGRATION_LOSES,
            f"{len(loss.subjects)} subjects would no longer be found, and {loss.templates} "
            "templates not be searched: no map takes them along.",
            field="accept_loss",
        )


def _too_fast() -> MienError:
    return MienError(
        Errors.MIGRATION_BEHIND, "Templates come faster than they can be moved.", retry_after=5.0
    )
