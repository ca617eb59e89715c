"""Accuracy on the development pictures, through the whole pipeline, as `mien evaluate` tells it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.integration.harness import run_mien

pytestmark = [pytest.mark.data, pytest.mark.slow, pytest.mark.timeout(900)]


def _evaluate(home: Path, images: Path, pairs: Path) -> dict[str, Any]:
    given = ("--images", images, "--pairs", pairs, "--model", "poseface", "--json")
    result = run_mien(home, "evaluate", *given, timeout=800)
    assert result.returncode == 0, result.stderr
    answer: dict[str, Any] = json.loads(result.stdout)
    print(json.dumps(answer, indent=2))  # noqa: T201 - the figures are worth seeing
    return answer


def test_lfw(mien_home: Path, research_data: Path, lfw_images: Path) -> None:
    found = _evaluate(mien_home, lfw_images, research_data / "lfw" / "pairs.tsv")
    assert found["pairs"] == 1800
    assert found["fte"] == 0
    assert found["accuracy"] >= 99.2


def test_cfp_frontal_profile(mien_home: Path, research_data: Path, cfp_images: Path) -> None:
    found = _evaluate(mien_home, cfp_images, research_data / "cfp" / "pairs_fp.tsv")
    assert found["pairs"] == 1400
    assert found["accuracy"] >= 93


def test_templates_of_several_pictures_beat_single_ones(
    mien_home: Path, cfp_images: Path, tmp_path: Path
) -> None:
    for person in sorted(cfp_images.iterdir())[:20]:
        shutil.copytree(person, tmp_path / person.name)
    result = run_mien(
        mien_home, "evaluate-fusion", "--images", tmp_path, "--model", "poseface", "--json",
        timeout=800,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["weights"] == "quality"
    assert found["people"] == 20
    eer = {(point["fusion"], point["images"]): point["eer"] for point in found["points"]}
    assert eer["weights", 6] < eer["weights", 1]
    assert eer["mean", 1] == eer["best", 1] == eer["weights", 1]
    assert found["weight_with_yaw"] < -0.3  # a profile counts for less
    assert found["weight_with_sharpness"] > 0.3


def test_too_few_pictures_of_a_person_are_told(mien_home: Path, cfp_images: Path) -> None:
    one = sorted(cfp_images.iterdir())[0] / "profile"
    result = run_mien(mien_home, "evaluate-fusion", "--images", one.parent, "--model", "poseface")
    assert result.returncode != 0
    assert "persons have" in result.stderr
