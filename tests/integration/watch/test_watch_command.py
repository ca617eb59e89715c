"""`mien watch` against a running Mien: what an operator sees."""

from __future__ import annotations

import json
import subprocess
import uuid
from pathlib import Path
from typing import Any

import av
import pytest

from tests.integration.harness import Mien, run_mien

_LIMIT = 240


class Operator:
    """Somebody with a terminal, and a tenant of their own."""

    def __init__(self, home: Path, mien: Mien) -> None:
        self._home, self._mien = home, mien
        self._tenant = f"tenant-{uuid.uuid4().hex[:12]}"

    def run(self, *words: object) -> subprocess.CompletedProcess[str]:
        own = ("--server", self._mien.grpc_address, "--tenant", self._tenant)
        return run_mien(self._home, "watch", *words, *own, timeout=_LIMIT)

    def watch(self, *words: object) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """Events and summary."""
        done = self.run(*words, "--fast", "--json")
        assert done.returncode == 0, done.stderr
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        assert lines[-1]["event"] == "summary"
        return lines[:-1], lines[-1]


@pytest.fixture
def operator(mien_home: Path, mien: Mien) -> Operator:
    return Operator(mien_home, mien)


def _kinds(events: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [event for event in events if event["event"] == kind]


def test_a_stranger_is_enrolled_from_the_track_and_then_recognised(
    operator: Operator, clip_folder: Path, tmp_path: Path
) -> None:
    video = tmp_path / "out.mp4"
    events, summary = operator.watch(clip_folder, "--camera", "front", "--view", video)
    assert {event["camera_id"] for event in events} == {"front"}
    (unknown, *_) = _kinds(events, "unknown")
    assert unknown["reason"] == "empty_gallery"
    counts = summary["cameras"]["front"]
    assert counts["read"] == counts["sent"] == 41
    assert (counts["answered"], counts["refused"], counts["lost"]) == (40, 1, 0)
    (error,) = _kinds(events, "frame_error")
    assert error["code"].startswith("image_")
    with av.open(str(video)) as opened:
        assert sum(1 for _ in opened.decode(video=0)) == 40

    done = operator.run("enrol", unknown["track_id"], "--subject", "s-1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("s-1: ")

    events, _ = operator.watch(clip_folder, "--camera", "back")
    assert {event["subject_id"] for event in _kinds(events, "recognised")} == {"s-1"}
    assert all(event["fpir"] and event["threshold"] for event in _kinds(events, "recognised"))


def test_the_table_names_track_and_reason_and_the_counts_come_last(
    operator: Operator, clip_folder: Path
) -> None:
    done = operator.run(clip_folder, "--fast")
    assert done.returncode == 0, done.stderr
    assert "empty_gallery" in done.stdout
    assert "appeared" in done.stdout
    assert "reconnections" in done.stderr


def test_a_policy_is_changed_field_by_field_and_listed(operator: Operator) -> None:
    shown = json.loads(operator.run("policy", "gate", "--json").stdout)
    changes = ("--set", "fpir=0.05", "--set", "region=0.1,0.1 0.9,0.1 0.5,0.9")
    changed = operator.run("policy", "gate", *changes, "--json")
    assert changed.returncode == 0, changed.stderr
    told = json.loads(changed.stdout)
    assert told["fpir"] == 0.05
    assert [point["x"] for point in told["region"]] == [0.1, 0.9, 0.5]
    kept = ("min_inter_eye_distance", "cool_down_seconds", "keep_track_seconds")
    assert [told[name] for name in kept] == [shown[name] for name in kept]
    cameras = json.loads(operator.run("cameras", "--json").stdout)["cameras"]
    assert [camera["camera_id"] for camera in cameras] == ["gate"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("enrol", "no-such-track", "--subject", "s-1"), "track"),
        (("policy", "gate", "--set", "colour=red"), "fpir"),
        (("policy", "gate", "--set", "fpir=lots"), "not understood"),
        (("/nowhere/at/all.mp4",), "no such file"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(
    operator: Operator, words: tuple[str, ...], said: str
) -> None:
    done = operator.run(*words)
    assert done.returncode == 3
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_service_that_refuses_for_good_is_not_asked_again(
    mien_home: Path, mien: Mien, clip_folder: Path
) -> None:
    words = ("watch", clip_folder, "--server", mien.grpc_address, "--tenant", "no such!")
    done = run_mien(mien_home, *words, timeout=60)
    assert done.returncode == 3
    assert "tenant" in done.stderr
