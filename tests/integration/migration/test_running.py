"""Running a migration: all of the gallery, once, whatever happens meanwhile."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from services.errors import Errors, MienError
from services.gallery import Enrolment, NewTemplate
from services.migration import Migrations, PlanOptions, Record, State
from services.migration.lease import Lease
from services.migration.run import Run
from tests.integration.mapping.tiny_mapping import add_map, units
from tests.integration.migration.migrating import (
    MAP,
    NEW,
    OLD,
    begun,
    check_mapped,
    enrol,
    mapped_by_hand,
    migrating,
    opened,
    rows_of,
    settings_of,
)

COUNT = 2000


async def test_a_run_maps_every_template_of_every_tenant_once(tmp_path: Path) -> None:
    async with migrating(tmp_path, COUNT) as (gallery, migrations, name):
        done = await migrations.run(name)
        assert done.state is State.CAUGHT_UP
        assert (done.read, done.written, done.skipped) == (COUNT, COUNT, 0)
        assert await check_mapped(gallery) == COUNT
        assert (await gallery.live()) == OLD


async def test_running_again_changes_nothing(tmp_path: Path) -> None:
    async with migrating(tmp_path, 200) as (gallery, migrations, name):
        await migrations.run(name)
        before = {key: one.sequence for key, one in (await rows_of(gallery, NEW)).items()}
        again = await migrations.run(name)
        after = {key: one.sequence for key, one in (await rows_of(gallery, NEW)).items()}
        assert before == after
        assert (again.state, again.read) == (State.CAUGHT_UP, 200)


async def test_progress_is_told_and_ends_at_nothing_left(tmp_path: Path) -> None:
    told: list[tuple[int, int, float | None]] = []

    def tell(record: Record) -> None:
        told.append((record.read, record.remaining, record.eta_seconds))

    async with migrating(tmp_path, 500) as (_, migrations, name):
        await migrations.run(name, told=tell)
    reads = [read for read, _, _ in told]
    assert reads == sorted(reads)
    assert len(set(reads)) >= 10
    halfway = next(one for one in told if 0 < one[0] < 500)
    assert halfway[1] == 500 - halfway[0]
    assert halfway[2] is not None
    assert halfway[2] > 0
    assert told[-1] == (500, 0, 0.0)


async def test_a_rate_is_kept(tmp_path: Path) -> None:
    async with migrating(tmp_path, 200) as (_, migrations, name):
        start = asyncio.get_running_loop().time()
        done = await migrations.run(name, rate=150)
        spent = asyncio.get_running_loop().time() - start
    assert done.state is State.CAUGHT_UP
    assert spent >= 200 / 150


async def test_a_paused_run_stops_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    async with migrating(tmp_path, 600) as (gallery, migrations, name):
        running = asyncio.create_task(migrations.run(name, rate=200))
        await begun(migrations, name)
        paused = await migrations.pause(name)
        assert paused.state is State.PAUSED
        assert 0 < paused.read < 600
        assert (await running).state is State.PAUSED
        await asyncio.sleep(0.3)
        assert len(await rows_of(gallery, NEW)) == paused.written
        assert (await migrations.pause(name)).state is State.PAUSED
        first = {key: one.sequence for key, one in (await rows_of(gallery, NEW)).items()}
        done = await migrations.run(name)
        assert done.state is State.CAUGHT_UP
        assert done.read == 600
        rows = await rows_of(gallery, NEW)
        assert all(rows[key].sequence == sequence for key, sequence in first.items())
        assert await check_mapped(gallery) == 600


@pytest.fixture
def slow_release(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run holds its lease for half a second after it has stored how it ended."""
    release = Lease._release

    async def late(self: Lease) -> None:
        await asyncio.sleep(0.5)
        await release(self)

    monkeypatch.setattr(Lease, "_release", late)


@pytest.mark.usefixtures("slow_release")
async def test_a_pause_is_told_when_the_run_has_let_go(tmp_path: Path) -> None:
    async with migrating(tmp_path, 300) as (_, migrations, name):
        await migrations.start(name, rate=100)
        assert (await migrations.pause(name)).state is State.PAUSED
        assert not await migrations.at_work(name)
        await migrations.start(name, rate=0)
        await _until(migrations, name, State.CAUGHT_UP)


@pytest.mark.usefixtures("slow_release")
async def test_a_start_while_a_paused_run_ends_is_not_lost(tmp_path: Path) -> None:
    async with migrating(tmp_path, 300) as (_, migrations, name):
        await migrations.start(name, rate=100)
        pausing = asyncio.create_task(migrations.pause(name))
        await _until(migrations, name, State.PAUSED)
        assert await migrations.at_work(name)
        await migrations.start(name, rate=0)
        await _until(migrations, name, State.CAUGHT_UP)
        await pausing


async def test_a_pause_right_after_a_start_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = Run._begin

    async def late(self: Run) -> None:
        await asyncio.sleep(2)
        await begin(self)

    monkeypatch.setattr(Run, "_begin", late)
    async with migrating(tmp_path, 300) as (_, migrations, name):
        started = await migrations.start(name, rate=100)
        assert started.state is State.RUNNING
        assert (await migrations.pause(name)).state is State.PAUSED


async def _until(migrations: Migrations, name: str, state: State) -> None:
    async with asyncio.timeout(20):
        while (await migrations.get(name)).state is not state:  # noqa: ASYNC110 - another's work
            await asyncio.sleep(0.02)


async def test_what_is_enrolled_and_deleted_during_a_run_reaches_both_sides(tmp_path: Path) -> None:
    async with migrating(tmp_path, 600) as (gallery, migrations, name):
        running = asyncio.create_task(migrations.run(name, rate=300))
        await begun(migrations, name)
        assert (await migrations.get(name)).read < 400
        await enrol(gallery, 60, start=600, seed=2)
        # One that was moved, and one that was not; a deleted subject, and a deleted template.
        for subject in ("s0", "s598"):
            await gallery.delete_subject("north", subject)
        for template in ("t1", "t599"):
            await gallery.delete_template("south", template)
        again = NewTemplate(OLD, units(1, OLD.dimension, 3)[0], "t2")
        await gallery.enrol("north", [Enrolment("s2", [again])])
        done = await running
        assert done.state is State.CAUGHT_UP
        keys = set(await rows_of(gallery, NEW))
        assert keys.isdisjoint({("north", "t0"), ("north", "t598"), ("south", "t1")})
        assert {("north", "t600"), ("south", "t659"), ("north", "t2")} <= keys
        assert await check_mapped(gallery) == 600 + 60 - 4


async def test_a_native_template_of_the_new_model_is_never_replaced_by_a_mapped_one(
    tmp_path: Path,
) -> None:
    own = units(1, NEW.dimension, 9)[0]
    async with migrating(tmp_path, 100) as (gallery, migrations, name):
        await gallery.create_collection(NEW)
        both = [NewTemplate(OLD, units(1, OLD.dimension, 8)[0], "t4"), NewTemplate(NEW, own, "t4")]
        await gallery.enrol("north", [Enrolment("s4", both)])
        done = await migrations.run(name)
        assert done.skipped == 1
        kept = (await rows_of(gallery, NEW))["north", "t4"]
        assert kept.map == ""
        np.testing.assert_array_equal(kept.vector, own)


async def test_what_is_mapped_already_is_not_mapped_on(tmp_path: Path) -> None:
    async with migrating(tmp_path, 100) as (gallery, migrations, name):
        rows = await rows_of(gallery, OLD)
        second = replace(rows["north", "t0"], map="elder@1", confidence=0.5)
        await gallery.write(OLD, [second])
        done = await migrations.run(name)
        assert (done.read, done.written, done.second_hand) == (100, 99, 1)
        assert ("north", "t0") not in await rows_of(gallery, NEW)
        plan = await migrations.plan(PlanOptions(MAP))
        assert plan.second_hand == 1
        with pytest.raises(MienError) as refused:
            await migrations.switch(name)
        assert refused.value.error is Errors.MIGRATION_LOSES
        assert "1 subjects" in refused.value.detail
        assert (await migrations.switch(name, accept_loss=True)).state is State.SWITCHED


async def test_a_dropped_target_is_filled_from_the_start(tmp_path: Path) -> None:
    async with migrating(tmp_path, 100) as (gallery, migrations, name):
        await migrations.run(name)
        await gallery.drop_collection(NEW)
        done = await migrations.run(name)
        assert done.written == 100
        assert await check_mapped(gallery) == 100


async def test_a_map_for_other_vectors_is_refused(tmp_path: Path) -> None:
    add_map(tmp_path)
    async with opened(settings_of(tmp_path)) as (gallery, migrations):
        await gallery.create_collection(replace(OLD, weights_sha256="c" * 64))
        with pytest.raises(MienError) as refused:
            await migrations.plan(PlanOptions(MAP))
        assert refused.value.error is Errors.IDENTITY_MISMATCH
        with pytest.raises(MienError) as unknown:
            await migrations.plan(PlanOptions("no-such-map"))
        assert unknown.value.error is Errors.MODEL_UNKNOWN
        assert not await migrations.every()
        assert len(await gallery.collections()) == 1


async def test_another_map_under_the_same_name_ends_the_run(tmp_path: Path) -> None:
    async with migrating(tmp_path, 100) as (gallery, migrations, name):
        record = await migrations.get(name)
        record.map_sha256 = "f" * 64
        await gallery.put_job(record.job())
        with pytest.raises(MienError) as refused:
            await migrations.run(name)
        assert refused.value.error is Errors.IDENTITY_MISMATCH
        failed = await migrations.get(name)
        assert failed.state is State.FAILED
        assert failed.failure is not None
        assert failed.failure.code == "identity_mismatch"
        assert not await rows_of(gallery, NEW)


async def test_two_maps_do_not_fill_one_target(tmp_path: Path) -> None:
    add_map(tmp_path)
    add_map(tmp_path, "second-map")
    async with migrating(tmp_path, 100) as (_, migrations, name):
        await migrations.run(name)
        second = await migrations.plan(PlanOptions("second-map@1"))
        with pytest.raises(MienError) as refused:
            await migrations.run(second.id)
        assert refused.value.error is Errors.MIGRATION_STATE
        assert await migrations.discard(name) == 100
        assert (await migrations.run(second.id)).written == 100


async def test_where_several_maps_fit_one_must_be_named(tmp_path: Path) -> None:
    add_map(tmp_path)
    async with migrating(tmp_path, 10) as (_, migrations, name):
        assert (await migrations.plan()).id == name
    add_map(tmp_path, "second-map")
    async with opened(settings_of(tmp_path)) as (_, migrations):
        with pytest.raises(MienError) as refused:
            await migrations.plan()
        assert refused.value.field == "map"


async def test_the_state_holds_no_vector_name_or_subject(tmp_path: Path) -> None:
    async with migrating(tmp_path, 50) as (gallery, migrations, name):
        await migrations.run(name)
        job = next(one for one in await gallery.jobs() if one.name.endswith(name))
        assert not [one for one in job.state.values() if isinstance(one, list)]
        assert "s1" not in str(job.state)


async def test_searching_the_target_finds_the_mapped_template(tmp_path: Path) -> None:
    async with migrating(tmp_path, 300) as (gallery, migrations, name):
        await migrations.run(name)
        old = await rows_of(gallery, OLD)
        probes = mapped_by_hand(np.stack([old["south", "t7"].vector]))
        ((best, *_),) = await gallery.search("south", NEW, probes)
        assert (best.subject_id, best.template_id, best.map) == ("s7", "t7", MAP)
