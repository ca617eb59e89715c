"""The switch to the new model, and the way back."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import numpy as np
import pytest

from models.zoo import Zoo
from models.zoo.fetch import file_sha256
from services.errors import Errors, MienError
from services.gallery import Enrolment, Gallery, NewTemplate
from services.mapping import probe_map
from services.migration import State
from tests.integration.mapping.tiny_mapping import SOURCE, TARGET, card_fields, end, units
from tests.integration.migration.migrating import (
    NEW,
    OLD,
    check_mapped,
    enrol,
    migrating,
    opened,
    rows_of,
    settings_of,
)
from tests.tiny_networks import write_map

BACK = "back-map@1"


def _add_way_back(home: Path) -> None:
    """Adds a map from the new model to the old one."""
    home.mkdir(parents=True, exist_ok=True)
    network = write_map(home / "back-map.onnx", TARGET, SOURCE)
    fields = card_fields(network, "back-map")
    fields |= {"source": end("new", TARGET, "b"), "target": end("old", SOURCE, "a")}
    (home / "back-map.json").write_text(json.dumps(fields))
    assert file_sha256(network) == fields["weights"]["sha256"]
    Zoo(home).add_map(network, home / "back-map.json", probe_map)


async def _enrol_newcomer(gallery: Gallery) -> None:
    await gallery.enrol(
        "north", [Enrolment("newcomer", [NewTemplate(NEW, units(1, TARGET, 5)[0], "n0")])]
    )


async def test_a_switch_before_the_run_is_over_is_refused(tmp_path: Path) -> None:
    async with migrating(tmp_path, 400) as (gallery, migrations, name):
        with pytest.raises(MienError) as early:
            await migrations.switch(name)
        assert early.value.error is Errors.MIGRATION_BEHIND
        await migrations.start(name, rate=100)
        with pytest.raises(MienError) as half:
            await migrations.switch(name)
        assert half.value.error is Errors.MIGRATION_BEHIND
        assert await migrations.at_work(name)
        assert await gallery.live() == OLD


async def test_the_switch_takes_along_what_was_enrolled_after_the_run(tmp_path: Path) -> None:
    async with migrating(tmp_path, 100) as (gallery, migrations, name):
        await migrations.run(name)
        await enrol(gallery, 30, start=100, seed=4)
        switched = await migrations.switch(name)
        assert switched.state is State.SWITCHED
        assert await gallery.live() == NEW
        assert await check_mapped(gallery) == 130
        assert (await migrations.switch(name)).state is State.SWITCHED
        assert (await migrations.run(name)).state is State.SWITCHED
        assert (await migrations.pause(name)).state is State.SWITCHED


async def test_nobody_who_enrols_while_it_is_switched_is_lost(tmp_path: Path) -> None:
    async with migrating(tmp_path, 200) as (gallery, migrations, name):
        await migrations.start(name)
        stored: list[str] = []

        async def go_on_enrolling() -> None:
            rows = units(2000, SOURCE, 6)
            for number, row in enumerate(rows):
                template = NewTemplate(OLD, row, f"late{number}")
                try:
                    await gallery.enrol("south", [Enrolment(f"late{number}", [template])])
                except MienError as error:
                    if error.error is not Errors.IDENTITY_MISMATCH:
                        raise
                    return  # the new model is live
                stored.append(template.id)

        enrolling = asyncio.create_task(go_on_enrolling())
        async with asyncio.timeout(60):
            while not (await migrations.get(name)).reached_end:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            while (await migrations.get(name)).state is not State.SWITCHED:
                try:
                    await migrations.switch(name)
                except MienError as error:
                    if error.error is not Errors.MIGRATION_BEHIND:
                        raise
            await enrolling
        assert stored
        assert {("south", one) for one in stored} <= set(await rows_of(gallery, NEW))
        assert await check_mapped(gallery) == 200 + len(stored)


async def test_a_switch_that_was_killed_half_way_is_seen_as_what_it_did(tmp_path: Path) -> None:
    async with migrating(tmp_path, 50) as (gallery, migrations, name):
        await migrations.run(name)
        record = await migrations.get(name)
        record.switched_after = 10_000
        await gallery.put_job(record.job())
        assert (await migrations.get(name)).state is State.CAUGHT_UP
        await gallery.switch(NEW)
        assert (await migrations.get(name)).state is State.SWITCHED


async def test_a_rollback_without_newcomers_needs_no_map(tmp_path: Path) -> None:
    async with migrating(tmp_path, 60) as (gallery, migrations, name):
        with pytest.raises(MienError) as early:
            await migrations.rollback(name)
        assert early.value.error is Errors.MIGRATION_STATE
        await migrations.run(name)
        await migrations.switch(name)
        back = await migrations.rollback(name)
        assert back.state is State.ROLLED_BACK
        assert await gallery.live() == OLD
        assert (await migrations.rollback(name)).state is State.ROLLED_BACK
        await enrol(gallery, 10, start=60, seed=7)
        with pytest.raises(MienError):
            await migrations.switch(name)
        assert (await migrations.run(name)).state is State.CAUGHT_UP
        assert (await migrations.switch(name)).state is State.SWITCHED
        assert await check_mapped(gallery) == 70


async def test_a_rollback_that_would_lose_newcomers_says_so_first(tmp_path: Path) -> None:
    async with migrating(tmp_path, 60) as (gallery, migrations, name):
        await migrations.run(name)
        await migrations.switch(name)
        await _enrol_newcomer(gallery)
        with pytest.raises(MienError) as refused:
            await migrations.rollback(name)
        assert refused.value.error is Errors.MIGRATION_LOSES
        assert "1 subjects would no longer be found" in refused.value.detail
        assert await gallery.live() == NEW
        back = await migrations.rollback(name, accept_loss=True)
        assert back.state is State.ROLLED_BACK
        assert await gallery.live() == OLD


async def test_a_rollback_maps_newcomers_back_where_a_map_leads_there(tmp_path: Path) -> None:
    _add_way_back(tmp_path)
    async with migrating(tmp_path, 60) as (gallery, migrations, name):
        before = await rows_of(gallery, OLD)
        await migrations.run(name)
        await migrations.switch(name)
        await _enrol_newcomer(gallery)
        back = await migrations.rollback(name)
        assert (back.state, back.carried_back) == (State.ROLLED_BACK, 1)
        rows = await rows_of(gallery, OLD)
        assert rows.keys() - before.keys() == {("north", "n0")}
        assert rows["north", "n0"].map == BACK
        for key, one in before.items():
            np.testing.assert_array_equal(rows[key].vector, one.vector)
        ((best, *_),) = await gallery.search("north", OLD, rows["north", "n0"].vector[None])
        assert best.subject_id == "newcomer"
        # Forward again, the newcomer's own template of the new model is there already.
        await migrations.run(name)
        assert (await migrations.switch(name)).state is State.SWITCHED
        assert (await rows_of(gallery, NEW))["north", "n0"].map == ""


async def test_a_migration_that_is_live_cannot_be_discarded(tmp_path: Path) -> None:
    async with migrating(tmp_path, 30) as (gallery, migrations, name):
        await migrations.run(name)
        await migrations.switch(name)
        with pytest.raises(MienError) as refused:
            await migrations.discard(name)
        assert refused.value.error is Errors.MIGRATION_STATE
        await migrations.rollback(name)
        assert await migrations.discard(name) == 30
        assert not await migrations.every()
        assert [one.space for one in await gallery.collections()] == [OLD]
    async with opened(settings_of(tmp_path)) as (_, migrations):
        with pytest.raises(MienError) as unknown:
            await migrations.run(name)
        assert unknown.value.error is Errors.MIGRATION_UNKNOWN
