"""Accuracy on the development pictures, through the whole pipeline, as `mien evaluate` tells it."""

from __future__ import annotations

import json
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
