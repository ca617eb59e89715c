"""Killed processes, second runners, services that are away: nothing lost, nothing done twice."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.zoo import Zoo
from services.errors import Errors, MienError
from services.gallery import Job
from services.gallery.open import open_gallery
from services.gateway.mapping_client import MappingClient
from services.gateway.mapping_link import RpcLink
from services.mapping import InProcessLink, MappingService
from services.migration import Migrations, State
from services.migration.lease import PREFIX, leased
from services.migration.metrics import RETRIES
from services.migration.record import PREFIX as RECORD
from services.settings import MappingSettings
from tests.integration.harness import command_environment, free_port
from tests.integration.mapping.tiny_mapping import loaded, serving, source, units
from tests.integration.migration.migrating import (
    MAP,
    NEW,
    begun,
    check_mapped,
    migrating,
    opened,
    rows_of,
    settings_of,
)

COUNT = 2000
KILLS = 10
_START_SECONDS = 60


def _read_of(home: Path, name: str) -> int:
    """How far a run has come, from the database's file, while another process holds it."""
    with contextlib.closing(
        sqlite3.connect(f"file:{home / 'gallery.sqlite3'}?mode=ro", uri=True, timeout=10)
    ) as connection:
        (state,) = connection.execute(
            "SELECT state FROM jobs WHERE name = ?", (RECORD + name,)
        ).fetchone()
    read: int = json.loads(state)["read"]
    return read


def _start(home: Path, *arguments: str, **settings: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "services.cli", "migrate", *arguments],
        env=command_environment(home, MIGRATION__BATCH=20, **settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _killed(home: Path, name: str, wait: float) -> None:
    """Resumes a run and kills it some time after it has moved something."""
    before = _read_of(home, name)
    process = _start(home, "resume", name, "--rate", "600")
    deadline = time.monotonic() + _START_SECONDS
    while _read_of(home, name) == before and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)
    time.sleep(wait)
    process.send_signal(signal.SIGKILL)
    process.communicate()


@pytest.mark.slow
async def test_a_run_that_is_killed_again_and_again_ends_as_an_undisturbed_one(
    tmp_path: Path,
) -> None:
    home, quiet = tmp_path / "home", tmp_path / "quiet"
    async with migrating(home, COUNT) as (_, _, name):
        pass
    shutil.copytree(home, quiet)
    rng = random.Random(7)  # noqa: S311 - moments, not secrets
    reads = [0]
    for _ in range(KILLS):
        await asyncio.to_thread(_killed, home, name, rng.uniform(0.0, 0.25))
        reads.append(_read_of(home, name))
    assert reads == sorted(set(reads)), "a kill that moved nothing tests nothing"
    assert reads[-1] < COUNT, "the run was over before it was killed"
    process = await asyncio.to_thread(_start, home, "resume", name, "--json")
    told, trouble = await asyncio.to_thread(process.communicate)
    assert process.returncode == 0, trouble
    last = json.loads(told)
    assert (last["state"], last["read"], last["written"]) == ("caught_up", COUNT, COUNT)
    async with opened(settings_of(quiet, batch=20)) as (gallery, migrations):
        await migrations.run(name)
        wanted = await rows_of(gallery, NEW)
    async with opened(settings_of(home)) as (gallery, _):
        assert await check_mapped(gallery) == COUNT
        found = await rows_of(gallery, NEW)
    assert found.keys() == wanted.keys()
    for key, one in wanted.items():
        np.testing.assert_array_equal(found[key].vector, one.vector)
        assert (found[key].confidence, found[key].subject_id) == (one.confidence, one.subject_id)


async def test_a_second_runner_is_turned_away(tmp_path: Path) -> None:
    async with migrating(tmp_path, 400) as (gallery, migrations, name):
        running = asyncio.create_task(migrations.run(name, rate=200))
        await begun(migrations, name)
        with pytest.raises(MienError) as refused:
            await migrations.run(name)
        assert refused.value.error is Errors.MIGRATION_BUSY
        assert (await running).state is State.CAUGHT_UP
        assert await check_mapped(gallery) == 400


async def test_of_two_runners_that_start_at_once_one_works(tmp_path: Path) -> None:
    async with migrating(tmp_path, 200) as (gallery, migrations, name):
        ends = await asyncio.gather(
            migrations.run(name), migrations.run(name), return_exceptions=True
        )
        busy = [one for one in ends if isinstance(one, MienError)]
        assert [one.error for one in busy] == [Errors.MIGRATION_BUSY]
        assert await check_mapped(gallery) == 200


async def test_the_lease_of_an_unknown_machine_is_free_when_it_rests_for_its_time(
    tmp_path: Path,
) -> None:
    async with migrating(tmp_path, 50, lease_seconds=0.6) as (gallery, migrations, name):
        held = {"token": "theirs", "count": 3, "seconds": 0.6, "where": "elsewhere", "process": 1}
        await gallery.put_job(Job(PREFIX + name, held))
        start = time.monotonic()
        assert (await migrations.run(name)).state is State.CAUGHT_UP
        assert time.monotonic() - start >= 0.6


async def test_a_lease_that_is_renewed_elsewhere_stays_theirs(tmp_path: Path) -> None:
    async with migrating(tmp_path, 50, lease_seconds=0.6) as (gallery, migrations, name):
        held: dict[str, Any] = {"token": "theirs", "seconds": 0.6, "where": "elsewhere"}

        async def renew() -> None:
            for count in range(100):
                await gallery.put_job(Job(PREFIX + name, {**held, "count": count}))
                await asyncio.sleep(0.2)

        renewing = asyncio.create_task(renew())
        await asyncio.sleep(0.1)
        with pytest.raises(MienError) as refused:
            await migrations.run(name)
        renewing.cancel()
        assert refused.value.error is Errors.MIGRATION_BUSY
        assert not (await migrations.get(name)).read


async def test_whoever_has_lost_the_lease_writes_no_more(tmp_path: Path) -> None:
    async with migrating(tmp_path, 600, lease_seconds=0.4) as (gallery, migrations, name):
        running = asyncio.create_task(migrations.run(name, rate=200))
        await begun(migrations, name)
        theirs = {"token": "theirs", "count": 1, "seconds": 60, "where": "elsewhere"}
        await gallery.put_job(Job(PREFIX + name, theirs))
        with pytest.raises(MienError) as lost:
            await running
        assert lost.value.error is Errors.MIGRATION_BUSY
        record = await migrations.get(name)
        assert record.state is State.RUNNING  # theirs to say
        assert record.read < 600


async def test_a_migration_whose_runner_is_gone_can_be_paused(tmp_path: Path) -> None:
    async with migrating(tmp_path, 200) as (gallery, migrations, name):
        record = await migrations.get(name)
        record.state = State.RUNNING
        await gallery.put_job(record.job())
        assert (await migrations.pause(name)).state is State.PAUSED
        assert (await migrations.run(name)).state is State.CAUGHT_UP


async def test_what_a_process_left_at_work_is_taken_up_by_the_next(tmp_path: Path) -> None:
    async with migrating(tmp_path, 400) as (_, migrations, name):
        await migrations.start(name, rate=100)
        await begun(migrations, name)
    async with opened(settings_of(tmp_path)) as (gallery, migrations):
        assert (await migrations.get(name)).state is State.RUNNING
        assert not await migrations.at_work(name)
        await migrations.take_up()
        assert await migrations.at_work(name)
        async with asyncio.timeout(30):
            while (await migrations.get(name)).state is not State.CAUGHT_UP:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        assert await check_mapped(gallery) == 400


async def test_a_lease_is_given_back(tmp_path: Path) -> None:
    async with migrating(tmp_path, 10) as (gallery, _, name):
        async with leased(gallery, name, 5.0):
            assert await gallery.job(PREFIX + name) is not None
        assert await gallery.job(PREFIX + name) is None


async def test_a_busy_mapping_service_only_slows_a_run_down(tmp_path: Path) -> None:
    async with migrating(tmp_path, 300) as (_, _, name):
        pass
    limits = MappingSettings(max_batch=16, queue_rows=16, batch_rows=4)
    service = MappingService(loaded(tmp_path, "tiny-map"), limits)
    client = MappingClient(InProcessLink(service), 10.0)
    settings = settings_of(tmp_path)
    gallery = await open_gallery(settings)
    migrations = Migrations(gallery, client, settings, Zoo(tmp_path))
    retried = RETRIES.labels(MAP, "overloaded")
    before = retried._value.get()
    info = await client.map_info(MAP)

    async def flood() -> None:
        while retried._value.get() < before + 3:
            with contextlib.suppress(MienError):
                await client.map(units(12), source(), info)
            await asyncio.sleep(0)

    floods = [asyncio.create_task(flood()) for _ in range(6)]
    done = await migrations.run(name)
    await asyncio.gather(*floods)
    assert done.state is State.CAUGHT_UP
    assert retried._value.get() >= before + 3
    assert await check_mapped(gallery) == 300
    await service.close()
    await gallery.close()


async def test_a_mapping_service_that_is_away_for_a_while_is_waited_for(tmp_path: Path) -> None:
    async with migrating(tmp_path, 400) as (_, _, name):
        pass
    settings = settings_of(tmp_path)
    port = free_port()
    mappers = [loaded(tmp_path, "tiny-map") for _ in range(2)]
    gallery = await open_gallery(settings)
    client = MappingClient(RpcLink(f"127.0.0.1:{port}"), 10.0)
    migrations = Migrations(gallery, client, settings, Zoo(tmp_path))

    def serve_for(event: threading.Event, number: int) -> None:
        with serving(mappers[number], port=port):
            event.wait()

    away, over = threading.Event(), threading.Event()
    first = asyncio.create_task(asyncio.to_thread(serve_for, away, 0))
    running = asyncio.create_task(migrations.run(name, rate=200))
    await begun(migrations, name)
    away.set()
    await first
    await asyncio.sleep(0.5)
    assert not running.done()
    second = asyncio.create_task(asyncio.to_thread(serve_for, over, 1))
    done = await running
    over.set()
    await second
    assert done.state is State.CAUGHT_UP
    assert await check_mapped(gallery) == 400
    await client.close()
    await gallery.close()


@pytest.mark.slow
async def test_a_gallery_that_is_away_for_a_while_is_waited_for(tmp_path: Path) -> None:
    async with migrating(tmp_path, 400, lease_seconds=60) as (gallery, migrations, name):
        running = asyncio.create_task(migrations.run(name, rate=200))
        await begun(migrations, name)
        # Another program locks the file for longer than the gallery itself waits.
        await asyncio.to_thread(_lock, tmp_path / "gallery.sqlite3", 11.0)
        assert (await running).state is State.CAUGHT_UP
        assert RETRIES.labels(MAP, "gallery_unavailable")._value.get() > 0
        assert await check_mapped(gallery) == 400


async def test_a_run_gives_up_in_the_end_and_says_why(tmp_path: Path) -> None:
    async with migrating(tmp_path, 50) as (_, _, name):
        pass
    settings = settings_of(tmp_path, patience_seconds=0.5)
    gallery = await open_gallery(settings)
    client = MappingClient(RpcLink(f"127.0.0.1:{free_port()}"), 1.0)
    migrations = Migrations(gallery, client, settings, Zoo(tmp_path))
    with pytest.raises(MienError) as gone:
        await migrations.run(name)
    assert gone.value.error is Errors.MAPPING_UNAVAILABLE
    record = await migrations.get(name)
    assert record.state is State.FAILED
    assert record.failure is not None
    assert record.failure.code == "mapping_unavailable"
    await client.close()
    await gallery.close()
    async with opened(settings_of(tmp_path)) as (gallery, migrations):
        assert (await migrations.run(name)).failure is None
        assert await check_mapped(gallery) == 50


@pytest.mark.parametrize("state", [State.RUNNING, State.CAUGHT_UP])
async def test_a_disk_that_is_full_as_a_run_begins_or_ends_does_not_fail_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: State
) -> None:
    async with migrating(tmp_path, 50) as (gallery, migrations, name):
        stored, left = gallery.put_job, [2]

        async def put_job(job: Job) -> None:
            if job.state.get("state") == state and left[0]:
                left[0] -= 1
                raise MienError(Errors.GALLERY_UNAVAILABLE, "The gallery's database failed.")
            await stored(job)

        monkeypatch.setattr(gallery, "put_job", put_job)
        record = await migrations.run(name)
        assert left == [0]
        assert record.state is State.CAUGHT_UP
        assert await check_mapped(gallery) == 50


def _lock(file: Path, seconds: float) -> None:
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        time.sleep(seconds)
        connection.execute("ROLLBACK")
