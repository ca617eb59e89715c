import hashlib
import json
import os
import shlex
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from typer.testing import CliRunner

from models.r3an.candidates import EARLIER, KINDS
from models.zoo import MapCard, Zoo, read_card
from services.cli import mapping, mapping_fit
from services.evaluation import PairsError
from tests.unit.tiny_onnx import DIMENSION

KILL_AFTER = 240.0
"""Seconds; about twenty are needed."""

RELEASED = sorted((Path(__file__).parents[3] / "models/zoo").glob("*-to-*/*/card.json"))

MADE = ["procrustes", "ridge", "mlp-three", "r3an"]


@pytest.fixture(scope="module")
def fitted(home: Path, crops_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("fitted")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MIEN_HOME", str(home))
        patch.setenv("MIEN_ENGINE__PREFERENCE", "onnxruntime")
        asked = ["fit", "--source", "old", "--target", "new", "--images", str(crops_folder)]
        asked += ["--out", str(out), "--trust-labels", "--epochs", "0.1", "--mlp-epochs", "1"]
        for kind in MADE:
            asked += ["--only", kind]
        done = CliRunner().invoke(mapping.app, [*asked, "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return out


def test_a_map_between_two_added_models_is_fitted_released_and_described(
    fitted: Path, home: Path
) -> None:
    card = read_card(fitted / "card.json")
    assert isinstance(card, MapCard)
    zoo = Zoo(home)
    for end, name in ((card.source, "old"), (card.target, "new")):
        known = zoo.embedder(name)
        assert end.reference == known.reference == f"{name}@1"
        assert end.preprocessing_sha256 == known.preprocessing_sha256
    facts = json.loads((fitted / "fit.json").read_text())
    assert [one["name"] for one in facts["maps"]] == MADE
    released = [one["name"] for one in facts["maps"] if one["released"]]
    assert released == [facts["released"]]
    best = max(one["calibration"]["rank1"] for one in facts["maps"])
    assert facts["maps"][MADE.index(released[0])]["calibration"]["rank1"] == best
    same = (fitted / "candidates" / f"{released[0]}.onnx").read_bytes()
    assert (fitted / "map.onnx").read_bytes() == same
    text = (fitted / "README.md").read_text()
    assert f"(`{released[0]}`)" in text
    assert "mien mapping fit --source old --target new" in text
    assert facts["left"] == []
    assert "Not tried" not in text


@pytest.mark.parametrize(
    ("asked", "until", "left", "said"),
    [
        (
            ["--views", "0", "--blends", "0", "--epochs", "10000"],
            "r3an/losses.csv",
            ["r3an"],
            "R3AN.",
        ),
        (["--views", "9999"], "card.json", ["ridge", "r3an"], "any of them on 9999 changed views"),
    ],
    ids=["in its long training", "while many views are embedded"],
)
def test_a_fit_that_is_killed_leaves_a_map_to_use(
    asked: list[str],
    until: str,
    left: list[str],
    said: str,
    home: Path,
    crops_folder: Path,
    tmp_path: Path,
) -> None:
    command = [sys.executable, "-m", "services.cli", "mapping", "fit", "--source", "old"]
    command += ["--target", "new", "--trust-labels", "--only", "ridge", "--only", "r3an"]
    command += ["--images", str(crops_folder), "--out", str(tmp_path), *asked]
    env = os.environ | {"MIEN_HOME": str(home), "MIEN_ENGINE__PREFERENCE": "onnxruntime"}
    log = tmp_path / "log"
    with log.open("wb") as told:
        fitting = subprocess.Popen(command, env=env, stdout=told, stderr=told)
        try:
            end = time.monotonic() + KILL_AFTER
            while not (tmp_path / until).is_file():
                assert fitting.poll() is None, log.read_text()
                assert time.monotonic() < end, log.read_text()
                time.sleep(0.2)
        finally:
            fitting.kill()
            fitting.wait()
    card = read_card(tmp_path / "card.json")
    assert isinstance(card, MapCard)
    written = (tmp_path / "map.onnx").read_bytes()
    assert card.weights.sha256 == hashlib.sha256(written).hexdigest()
    assert json.loads((tmp_path / "fit.json").read_text())["left"] == left
    assert f"Not tried when this was written: {said}" in (tmp_path / "README.md").read_text()


def test_vectors_come_out_of_unit_length_with_a_confidence(fitted: Path) -> None:
    session = onnxruntime.InferenceSession(str(fitted / "map.onnx"))
    given = np.random.default_rng(0).normal(size=(5, DIMENSION)).astype(np.float32)
    given /= np.linalg.norm(given, axis=1, keepdims=True)
    made, trust = session.run(["mapped", "confidence"], {"vector": given})
    np.testing.assert_allclose(np.linalg.norm(made, axis=1), 1, atol=1e-5)
    assert trust.shape == (5, 1)
    assert np.abs(trust).max() <= 1


def test_a_fit_that_is_done_is_not_done_again(
    fitted: Path, home: Path, crops_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIEN_HOME", str(home))
    monkeypatch.setenv("MIEN_ENGINE__PREFERENCE", "onnxruntime")
    kept = fitted / "candidates" / "mlp-three.pt"
    before = kept.stat().st_mtime_ns
    asked = ["fit", "--source", "old", "--target", "new", "--images", str(crops_folder)]
    asked += ["--out", str(fitted), "--trust-labels", "--only", "mlp-three"]
    again = CliRunner().invoke(mapping.app, [*asked, "--mlp-epochs", "1"])
    assert again.exit_code == 0, again.output
    assert kept.stat().st_mtime_ns == before
    for changed in (["--mlp-epochs", "2"], ["--mlp-epochs", "1", "--views", "3"]):
        other = CliRunner().invoke(mapping.app, [*asked, *changed])
        assert isinstance(other.exception, PairsError)
        assert "other models, data or options" in str(other.exception)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (["--source", "old", "--target", "old"], "no map to itself"),
        (["--source", "old", "--target", "unheard"], "no model 'unheard'"),
        (["--source", "old", "--target", "new", "--only", "magic"], "magic is none of"),
    ],
)
def test_what_cannot_be_fitted_is_said(
    asked: list[str],
    told: str,
    home: Path,
    crops_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MIEN_HOME", str(home))
    where = ["--images", str(crops_folder), "--out", str(tmp_path), "--trust-labels"]
    done = CliRunner().invoke(
        mapping.app, ["fit", *asked, *where], env={"COLUMNS": "200", "TERM": "dumb"}
    )
    assert done.exit_code != 0
    assert told in done.output + str(done.exception)


@pytest.mark.parametrize("name", [one.parent.parent.name for one in RELEASED])
def test_a_released_map_can_be_fitted_again(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the command in its card, which may name candidates that are no longer made unasked."""
    card = read_card(next(one for one in RELEASED if one.parent.parent.name == name))
    assert isinstance(card, MapCard)
    (command,) = {threshold.command for threshold in card.thresholds}
    plans: list[mapping_fit.Plan] = []

    def keep(plan: mapping_fit.Plan) -> dict[str, Any]:
        plans.append(plan)
        return {}

    monkeypatch.setattr(mapping_fit, "fit", keep)
    asked = shlex.split(command.replace("data/train", str(Path(__file__).parent)))
    assert asked[:2] == ["mien", "mapping"]
    done = CliRunner().invoke(mapping.app, [*asked[2:], "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    (plan,) = plans
    assert set(plan.kinds()) == set(plan.only)
    every = replace(plan, only=())
    assert set(every.kinds()) == set(KINDS) - set(EARLIER)
