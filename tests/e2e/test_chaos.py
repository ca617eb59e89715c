"""Mien under faults and under a long load, by the commands that measure both."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from services.bench.chaos import chosen_faults
from services.bench.chaos.journal import CUT, Call, told
from services.bench.chaos.questions import Question
from tests.integration.harness import run_mien

_SECONDS = 1
_TIMEOUT = 800


def _measured(home: Path, *words: object) -> dict[str, Any]:
    result = run_mien(home, "bench", *words, "--json", timeout=_TIMEOUT)
    assert result.returncode == 0, result.stdout + result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return found


@pytest.fixture
def home(mien_home: Path, tmp_path: Path) -> Path:
    """A home of its own with the pulled weights and photographs."""
    folder = tmp_path / "home"
    folder.mkdir()
    for name in ("weights", "demo"):
        (folder / name).symlink_to(mien_home / name)
    return folder


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_fault_is_survived_and_nothing_acknowledged_is_lost(home: Path) -> None:
    found = _measured(home, "chaos", "--seconds", _SECONDS)
    here = {one.name for one in chosen_faults([]) if not one.missing()}
    tried = {one["fault"] for one in found["faults"] if not one["skipped"]}
    assert tried == here
    assert found["value"] == found["reference"] == len(here)
    assert (found["lost"], found["doubled"], found["wrong"]) == (0, 0, 0)
    assert found["acknowledged"] > len(here)
    moved = found["migration"]
    if isinstance(moved, dict):
        assert moved["state"] == "caught_up"
        assert (moved["missing"], moved["doubled"]) == (0, 0)
        assert moved["templates"] > 3000
    for one in found["faults"]:
        if not one["skipped"]:
            assert one["answered"] > 0
            assert one["acknowledged"] > 0
            assert one["recovered_seconds"] >= 0


@pytest.mark.slow
def test_a_soak_tells_what_was_answered_and_what_memory_did(home: Path) -> None:
    found = _measured(home, "soak", "--seconds", 20, "--share", 0.5, "--calibration", 3)
    assert found["errors"] == {}
    assert found["value"] > 0.8 * found["reference"]
    assert found["reference"] == pytest.approx(0.5 * found["capacity"], rel=0.3)
    assert found["p50_ms"] <= found["p95_ms"] <= found["p99_ms"]
    low, high = found["memory_slope_interval"]
    assert low <= found["memory_slope_mb_per_minute"] <= high
    assert all(one > 100 for one in found["memory_mb"])
    assert found["threads"][1] < found["threads"][0] + 10
    assert found["open_files"][1] < found["open_files"][0] + 50


def test_an_unknown_fault_is_refused_with_the_names_of_all(mien_home: Path) -> None:
    result = run_mien(mien_home, "bench", "chaos", "--faults", "flood")
    assert result.returncode != 0
    for one in chosen_faults([]):
        assert one.name in result.stderr.replace("\n", "")


def test_calls_are_told_by_what_they_ended_in() -> None:
    calls = [
        Call("verify", 0, 1, 200),
        Call("verify", 0, 1, 503, "embedding_unavailable"),
        Call("enrol", 0, 1, 503, "embedding_unavailable"),
        Call("enrol", 0, 1, CUT),
    ]
    assert told(calls) == {"503 embedding_unavailable": 2, "broken off": 1}


def _verified(decision: str, status: str) -> dict[str, Any]:
    done = {"enhancement": {"status": status}}
    return {"decision": decision, "probe": done, "results": [{"reference": done}]}


@pytest.mark.parametrize(
    ("same", "truth", "answer", "right"),
    [
        (True, _verified("same", "applied"), _verified("same", "applied"), True),
        (True, _verified("same", "applied"), _verified("different", "applied"), False),
        (True, _verified("same", "applied"), _verified("different", "unavailable"), True),
        (False, _verified("different", "applied"), _verified("same", "unavailable"), False),
        (False, _verified("different", "applied"), _verified("same", "applied"), False),
    ],
)
def test_two_people_are_never_one_and_only_a_missing_enhancer_excuses_another_answer(
    same: bool, truth: dict[str, Any], answer: dict[str, Any], right: bool
) -> None:
    question = Question("/v1/verify", {}, same)
    question.learn(truth)
    assert question.is_right(answer) is right
