"""Migration as a user measures it and is shown it: benchmark, evaluation on photographs, demo."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from models.zoo import WeightsMissingError, Zoo
from tests.integration.harness import run_mien

_MAP = "dlib-to-poseface"
_PEOPLE = 40


def _answered(result: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert result.returncode == 0, result.stderr
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
def test_bench_kills_a_migration_and_finds_what_an_undisturbed_one_stores(home: Path) -> None:
    words = ("bench", "migrate", "--map", _MAP, "--templates", 1200, "--kills", 2, "--seconds", 2)
    found = _answered(run_mien(home, *words, "--json", timeout=800))
    assert found["killed"] == len(found["read"]) == 2
    assert 0 < found["read"][0] < found["read"][1] < 1200
    assert found["identical"] is True
    assert found["compared"] == found["templates"] == 1200
    assert found["ratio"] == pytest.approx(found["value"] / found["reference"], rel=1e-2)
    assert found["memory_growth_mb"] < 100
    assert not list(home.glob("mien-bench-*"))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_demo_ends_with_a_migration_and_its_report_as_a_picture(home: Path) -> None:
    found = _answered(run_mien(home, "demo", "--json", timeout=800))
    assert found["all_right"] is True
    moved = found["migration"]
    assert (moved["verdict"], moved["state"], moved["templates"]) == ("migrate", "switched", 900)
    assert moved["found_first"] > 0.9
    picture = Path(moved["report"][-1])
    assert picture.parent == home / "demo-migration"
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_migrated_people_are_known_from_new_photographs_within_what_the_card_promises(
    mien_home: Path, lfw_images: Path, tmp_path: Path
) -> None:
    zoo = Zoo(mien_home)
    try:
        zoo.weights(zoo.embedder("dlib"))
    except WeightsMissingError:
        pytest.skip("dlib's weights are not here: mien models pull dlib")
    several = [one for one in sorted(lfw_images.iterdir()) if len(list(one.iterdir())) > 1][
        :_PEOPLE
    ]
    lines = [f"{one.name}/{file.name}\t{one.name}" for one in several for file in _photographs(one)]
    index = tmp_path / "index.tsv"
    index.write_text("\n".join(["path\tperson", *lines]) + "\n", encoding="utf-8")
    words = ("evaluate-migration", "--map", _MAP, "--images", lfw_images, "--index", index)
    found = _answered(run_mien(mien_home, *words, "--json", timeout=1700))
    assert (found["state"], found["migrated"]) == ("switched", _PEOPLE)
    assert found["people"] == _PEOPLE
    assert found["rank1"]["native"]["estimate"] >= 95
    assert found["rank1"]["migrated"]["estimate"] >= 90
    assert found["inside_card"] is True
    lost = found["rank1"]["native"]["estimate"] - found["rank1"]["migrated"]["estimate"]
    assert found["rank1_loss"]["estimate"] == pytest.approx(lost, abs=1e-3)


def _photographs(person: Path) -> list[Path]:
    """At most three, so that the test stays short."""
    return sorted(person.iterdir())[:3]


def test_an_index_of_single_photographs_is_refused_in_a_sentence(
    mien_home: Path, tmp_path: Path
) -> None:
    index = tmp_path / "index.tsv"
    rows = "".join(f"{name}.jpg\t{name}\n" for name in "abcd")
    index.write_text("path\tperson\n" + rows, encoding="utf-8")
    words = ("evaluate-migration", "--map", _MAP, "--images", tmp_path, "--index", index)
    result = run_mien(mien_home, *words)
    assert (result.returncode, result.stdout) == (3, "")
    assert "Nobody has two photographs." in result.stderr
