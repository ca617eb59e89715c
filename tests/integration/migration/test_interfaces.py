"""Migrations over REST, over gRPC, and by the command line."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.rpc.mien.v1 import migration_pb2, migration_pb2_grpc
from services.settings import Settings
from tests.integration.harness import Mien, call, mien_in_thread, run_mien, weightless_loader
from tests.integration.migration.migrating import (
    NEW,
    check_mapped,
    migrating,
    opened,
    settings_of,
)

COUNT = 300


def _home(folder: Path, mien_home: Path) -> Path:
    """A home of its own with the detector's weights, so that a gallery can lie in it."""
    folder.mkdir()
    for one in mien_home.iterdir():
        if not one.name.startswith("gallery") and one.name != "models":
            (folder / one.name).symlink_to(one)
    return folder


async def _fill(home: Path) -> str:
    async with migrating(home, COUNT) as (_, _, name):
        return name


async def _check(home: Path) -> int:
    async with opened(settings_of(home)) as (gallery, _):
        assert await gallery.live() == NEW
        return await check_mapped(gallery)


@pytest.fixture
def served(
    mien_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Mien, str, Path]]:
    """Mien with a gallery of the tiny map's source, and the id of the migration."""
    home = _home(tmp_path / "home", mien_home)
    name = call(_fill(home))
    settings: dict[str, Any] = settings_of(home).model_dump()
    settings["gateway"] |= {"http_port": 0, "grpc_port": 0, "workers": 2, "enhance": False}
    monkeypatch.setattr("services.serve.load_configured", weightless_loader())
    settings["embedding"] |= {"models": ("sface",)}
    with mien_in_thread(Settings.model_validate(settings)) as running:
        yield running, name, home


def _until(client: httpx.Client, path: str, state: str) -> dict[str, Any]:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        found: dict[str, Any] = client.get(path).json()["migration"]
        if found["state"] == state:
            return found
        time.sleep(0.05)
    raise AssertionError(f"it is {found['state']}, not {state}")


def test_a_migration_over_rest_from_plan_to_rollback(served: tuple[Mien, str, Path]) -> None:
    mien, name, _ = served
    path = f"/v1/migrations/{name}"
    with mien.client() as client:
        plan = client.post("/v1/migrations", json={"map": "tiny-map"}).json()
        assert (plan["id"], plan["templates"]) == (name, COUNT)
        assert plan["source"] == "old@1"
        assert sum(plan["confidences"]) == pytest.approx(1, abs=1e-3)
        assert plan["histograms"]["mapped genuine"] == []
        assert sum(plan["histograms"]["mapped impostor"]) == pytest.approx(1, abs=1e-3)
        early = client.post(f"{path}/switch")
        assert (early.status_code, early.json()["code"]) == (409, "migration_behind")
        started = client.post(f"{path}/start", json={"rate": 100}).json()["migration"]
        assert (started["state"], started["at_work"]) == ("running", True)
        paused = client.post(f"{path}/pause").json()["migration"]
        assert (paused["state"], paused["at_work"]) == ("paused", False)
        assert 0 < paused["read"] < COUNT
        client.post(f"{path}/resume", json={"rate": 0})
        done = _until(client, path, "caught_up")
        assert (done["read"], done["written"], done["eta_seconds"]) == (COUNT, COUNT, 0)
        metrics = client.get("/metrics").text
        assert 'mien_migration_state{map="tiny-map@1",state="caught_up"} 1.0' in metrics
        assert 'mien_migration_remaining_templates{map="tiny-map@1"} 0.0' in metrics
        assert client.post(f"{path}/switch").json()["migration"]["state"] == "switched"
        assert client.post(f"{path}/switch").json()["migration"]["state"] == "switched"
        assert client.post(f"{path}/rollback").json()["migration"]["state"] == "rolled_back"
        listed = client.get("/v1/migrations").json()["migrations"]
        assert [one["state"] for one in listed] == ["rolled_back"]


_REFUSALS: list[tuple[str, str, Any, int, str]] = [
    ("GET", "/v1/migrations/none", None, 404, "migration_unknown"),
    ("POST", "/v1/migrations/none/start", None, 404, "migration_unknown"),
    ("POST", "/v1/migrations", {"map": "none"}, 404, "model_unknown"),
    ("POST", "/v1/migrations", {"fmr": 2}, 422, "invalid_request"),
    ("POST", "/v1/migrations", {"speed": 2}, 422, "invalid_request"),
    ("POST", "/v1/migrations/{id}/rollback", None, 409, "migration_state"),
    ("POST", "/v1/migrations/{id}/start", {"rate": -1}, 422, "invalid_request"),
]


def test_what_cannot_be_done_is_answered_as_a_problem(served: tuple[Mien, str, Path]) -> None:
    mien, name, _ = served
    with mien.client() as client:
        for method, path, body, status, code in _REFUSALS:
            answer = client.request(method, path.replace("{id}", name), json=body)
            assert (answer.status_code, answer.json()["code"]) == (status, code), path


def test_a_migration_over_grpc(served: tuple[Mien, str, Path]) -> None:
    mien, name, home = served
    with mien.channel() as channel:
        stub = migration_pb2_grpc.MigrationServiceStub(channel)
        plan = stub.PlanMigration(migration_pb2.PlanMigrationRequest(map="tiny-map@1")).plan
        assert plan.id == name
        assert plan.verdict == migration_pb2.MIGRATION_VERDICT_MIGRATE
        assert not plan.HasField("fnmr_before")
        assert sum(plan.confidences) == pytest.approx(1, abs=1e-3)
        assert sum(plan.histograms["source impostor"].shares) == pytest.approx(1, abs=1e-3)
        stub.StartMigration(migration_pb2.StartMigrationRequest(id=name, rate=100))
        paused = stub.PauseMigration(migration_pb2.PauseMigrationRequest(id=name)).migration
        assert paused.state == migration_pb2.MIGRATION_STATE_PAUSED
        stub.ResumeMigration(migration_pb2.ResumeMigrationRequest(id=name))
        deadline = time.monotonic() + 30
        request = migration_pb2.GetMigrationRequest(id=name)
        while stub.GetMigration(request).migration.state != migration_pb2.MIGRATION_STATE_CAUGHT_UP:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        switched = stub.SwitchMigration(migration_pb2.SwitchMigrationRequest(id=name)).migration
        assert switched.state == migration_pb2.MIGRATION_STATE_SWITCHED
        assert switched.written == COUNT
        back = stub.RollBackMigration(migration_pb2.RollBackMigrationRequest(id=name)).migration
        assert back.state == migration_pb2.MIGRATION_STATE_ROLLED_BACK
        (listed,) = stub.ListMigrations(migration_pb2.ListMigrationsRequest()).migrations
        assert listed.state == back.state
        seen = stub.GetShadowReport(migration_pb2.GetShadowReportRequest(id=name))
        assert (seen.looked, len(seen.live_leads)) == (0, 40)
    assert home.exists()


@pytest.mark.slow
def test_a_migration_by_the_command_line(tmp_path: Path) -> None:
    home = tmp_path / "home"
    call(_fill(home))

    def mien(*arguments: str, code: int = 0) -> Any:
        done = run_mien(home, "migrate", *arguments, "--json")
        assert done.returncode == code, done.stderr
        return json.loads(done.stdout) if code == 0 else done.stderr

    plan = mien("plan", "--out", str(tmp_path / "report"))
    assert (tmp_path / "report" / "plan.md").exists()
    assert "run it first" in mien("switch", code=3)
    assert mien("run")["state"] == "caught_up"
    (listed,) = mien("status")["migrations"]
    assert (listed["id"], listed["at_work"]) == (plan["id"], False)
    assert mien("switch")["state"] == "switched"
    assert call(_check(home)) == COUNT
    assert mien("rollback")["state"] == "rolled_back"
    assert mien("discard") == {"id": plan["id"], "deleted": COUNT}
