"""A migration whose mapping runs on a Ray cluster: the same templates, bit for bit."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

from models.zoo import Zoo
from services.errors import Errors, MienError
from services.gallery import Enrolment, Gallery, NewTemplate, Space
from services.migration import Migrations, PlanOptions, State
from services.migration.ray_engine import RayAhead, RayOptions, ShardMapper
from services.migration.shards import Shards, mapped_file
from services.settings import EngineSettings
from tests.integration.harness import command_environment
from tests.integration.mapping.tiny_mapping import units
from tests.integration.migration.migrating import opened, rows_of, settings_of

ray = pytest.importorskip("ray", reason="mien[ray] is not installed")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
_REPO = Path(__file__).parents[3]
_MAP = "dlib-to-poseface"
_COUNT, _SHARD = 700, 250


def _ends() -> tuple[Space, Space]:
    card = Zoo(Path("none")).map(_MAP)
    source, target = (
        Space(one.name, one.version, one.weights_sha256, one.preprocessing_sha256, one.dimension)
        for one in (card.source, card.target)
    )
    return source, target


@asynccontextmanager
async def _planned(home: Path) -> AsyncIterator[tuple[Gallery, Migrations, str]]:
    """A gallery whose vectors the released map takes, and the id of a planned migration."""
    source, _ = _ends()
    async with opened(settings_of(home)) as (gallery, migrations):
        await gallery.create_collection(source)
        for start in (0, 500):
            rows = units(min(500, _COUNT - start), source.dimension, start)
            await gallery.enrol(
                "north",
                [
                    Enrolment(f"s{start + number}", [NewTemplate(source, row)])
                    for number, row in enumerate(rows)
                ],
            )
        plan = await migrations.plan(PlanOptions(_MAP))
        yield gallery, migrations, plan.id


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """A cluster of one CPU, whose workers find this very code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(_REPO))
        ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
        yield
        ray.shutdown()


async def test_a_cluster_and_the_mapping_service_make_the_same_templates(tmp_path: Path) -> None:
    home, other = tmp_path / "home", tmp_path / "other"
    async with _planned(home) as (_, _, name):
        pass
    shutil.copytree(home, other)
    result = await asyncio.to_thread(
        subprocess.run,
        [
            sys.executable, "-m", "services.cli", "migrate", "run", name, "--json",
            "--engine", "ray", "--ray-address", "local", "--shards", str(tmp_path / "shards"),
        ],
        env={**command_environment(home, MIGRATION__BATCH=100), "PYTHONPATH": str(_REPO)},
        capture_output=True, text=True, check=False, timeout=800,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    told = json.loads(result.stdout)
    assert (told["state"], told["written"]) == ("caught_up", _COUNT)
    left = [path for path in (tmp_path / "shards").rglob("*") if path.is_file()]
    assert not left, "shards hold faces and are deleted at the end"
    _, target = _ends()
    async with opened(settings_of(other)) as (gallery, migrations):
        await migrations.run(name)
        wanted = await rows_of(gallery, target)
    async with opened(settings_of(home)) as (gallery, _):
        found = await rows_of(gallery, target)
    assert found.keys() == wanted.keys()
    assert len(found) == _COUNT
    for key, one in wanted.items():
        made = found[key]
        assert made.vector.tobytes() == one.vector.tobytes()
        assert (made.confidence, made.map, made.subject_id, made.created) == (
            one.confidence, one.map, one.subject_id, one.created,
        )  # fmt: skip


@pytest.mark.usefixtures("cluster")
async def test_shards_that_are_mapped_already_are_not_mapped_again(tmp_path: Path) -> None:
    async with _planned(tmp_path) as (gallery, migrations, name):
        options = RayOptions("auto", tmp_path / "shards", _SHARD)
        engine = RayAhead(settings_of(tmp_path), options)
        record = await migrations.get(name)
        await engine.prepare(gallery, record)
        made = sorted((tmp_path / "shards").rglob("mapped-*.parquet"))
        assert len(made) == 3
        before = [path.stat().st_mtime_ns for path in made]
        made[1].unlink()
        await gallery.enrol(
            "north", [Enrolment("late", [NewTemplate(record.source.space(), units(1, 128, 9)[0])])]
        )
        await engine.prepare(gallery, record)
        after = [path.stat().st_mtime_ns for path in made]
        assert (after[0], after[2]) == (before[0], before[2])
        assert after[1] > before[1]
        assert len(list((tmp_path / "shards").rglob("mapped-*.parquet"))) == 4
        done = await migrations.run(name, engine=engine)
        assert (done.state, done.written) == (State.CAUGHT_UP, _COUNT + 1)


@pytest.mark.usefixtures("cluster")
async def test_a_shard_that_cannot_be_mapped_ends_the_run_with_its_reason(tmp_path: Path) -> None:
    async with _planned(tmp_path) as (_, migrations, name):
        record = await migrations.get(name)
        folder = tmp_path / "shards" / name / record.map_sha256
        Shards(folder).put(0, 5, [1, 2], np.zeros((2, 128), np.float32))
        engine = RayAhead(settings_of(tmp_path), RayOptions("auto", tmp_path / "shards"))
        with pytest.raises(MienError) as failed:
            await migrations.run(name, engine=engine)
        assert failed.value.error is Errors.MAPPING_UNAVAILABLE
        assert failed.value.detail == "1 of 2 shards failed: It must not be zero."
        assert (await migrations.get(name)).state is State.FAILED


def test_a_node_that_knows_another_map_by_that_name_maps_nothing(tmp_path: Path) -> None:
    shards = Shards(tmp_path / "shards")
    shards.put(0, 5, range(1, 6), units(5, 128))
    (shard,) = shards.unmapped()
    mapper = ShardMapper(_MAP, "0" * 64, str(tmp_path), EngineSettings().model_dump(), 16)
    assert "another map" in mapper({"path": str(shard)})["failure"]
    assert not mapped_file(shard).exists()


@pytest.mark.parametrize("rows", [1, 3, 16, 64])
def test_what_a_vector_is_mapped_to_does_not_depend_on_who_is_mapped_with_it(
    tmp_path: Path, rows: int
) -> None:
    vectors = units(70, 128)
    sha256 = Zoo(tmp_path).map(_MAP).weights.sha256
    engine = EngineSettings().model_dump()
    path = Shards(tmp_path / "shards")
    path.put(0, 70, range(1, 71), vectors)
    (shard,) = path.unmapped()
    row = {"path": str(shard)}
    ShardMapper(_MAP, sha256, str(tmp_path), engine, 16)(row)
    wanted = mapped_file(shard).read_bytes()
    ShardMapper(_MAP, sha256, str(tmp_path), engine, rows)(row)
    assert mapped_file(shard).read_bytes() == wanted
