import json
import signal
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="training needs torch: pip install mien[train]")
pytest.importorskip("onnx", reason="training needs onnx: pip install mien[train]")
pytest.importorskip("onnxscript", reason="torch's exporter needs onnxscript: mien[train]")

from typer.testing import CliRunner

from models.ddat import ablate, export, report
from models.ddat.ablate import VARIANTS, changes_of
from models.ddat.options import TrainOptions, profile_options
from models.ddat.train import Trainer
from models.training.errors import StoppedError

CHOSEN = ("G, source alone", "full, paper's input")
SPEC = ("G, source alone", "+ adaptor", "+ consistency", "+ VAT (full)")


def test_the_specs_rows_add_one_part_after_the_other() -> None:
    parts = ["adaptor_weight", "consistency_weight", "vat_weight"]
    used = [
        [bool(getattr(profile_options("cpu", changes_of(name)), part)) for part in parts]
        for name in SPEC
    ]
    assert used == [
        [False, False, False], [True, False, False], [True, True, False], [True, True, True],
    ]  # fmt: skip
    assert all(not profile_options("cpu", changes_of(name)).identity_weight for name in SPEC)
    assert profile_options("cpu", changes_of("+ teacher (ours)")) == profile_options("cpu")


def test_every_variant_can_be_run() -> None:
    for name in VARIANTS:
        profile_options("gpu", changes_of(name))


@pytest.fixture
def common(
    data_folder: Path, zoo_poseface: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    """Arguments of every command here; two variants, small enough for a test."""
    # The toy people's source is called "toy"; hold some of them out.
    monkeypatch.setattr(TrainOptions, "holdout", lambda _: {"toy": 0.4})
    tiny = {
        "width": 8, "discriminator_width": 4, "batch": 2, "amp": False, "min_images": 1,
        "merge_above": 1.0, "label_floor": -1.0, "workers": 1, "pretrain": 0.0,
    }  # fmt: skip
    monkeypatch.setattr(
        ablate, "profile_options", lambda profile, changes: profile_options(profile, changes | tiny)
    )
    monkeypatch.setattr(ablate, "QUICK_SIDES", (16,))
    monkeypatch.setattr("models.ddat.train.QUICK_SIDES", (16,))
    monkeypatch.setattr("models.ddat.train.QUICK_DOMAINS", ("source",))
    monkeypatch.setattr("models.ddat.train.draw", lambda *_: None)  # curves cost seconds
    chosen = {name: VARIANTS[name] for name in CHOSEN}
    monkeypatch.setattr(ablate, "VARIANTS", chosen)
    return ["--data", str(data_folder), "--start", str(zoo_poseface), "--cache", str(cache)]


def test_a_variant_that_was_stopped_is_not_measured(
    common: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Trainer.train_step

    def terminated(self: Trainer, batch: Any) -> dict[str, float]:
        # Not sent: in a test run with the threads of many libraries any of them might get it.
        stop = signal.getsignal(signal.SIGTERM)
        assert callable(stop)
        stop(signal.SIGTERM, None)
        return step(self, batch)

    command = [*common, "--out", str(tmp_path), "--limit", "2", "--epochs", "2"]
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train_step", terminated)
        told = CliRunner().invoke(ablate.app, command)
    assert isinstance(told.exception, StoppedError)
    assert not (tmp_path / "ablation.json").exists()
    assert [folder.name for folder in tmp_path.iterdir()] == ["g-source-alone"]
    told = CliRunner().invoke(ablate.app, command)
    assert told.exit_code == 0, told.output
    assert "resumed after step 1 of 2" in told.output


def test_one_command_trains_measures_and_tables_the_variants(
    common: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = CliRunner().invoke(
        ablate.app, [*common, "--out", str(tmp_path), "--limit", "2", "--epochs", "1"]
    )
    assert told.exit_code == 0, told.output
    outcomes = json.loads((tmp_path / "ablation.json").read_text())["outcomes"]
    assert [outcome["name"] for outcome in outcomes] == ["nearest", "bicubic", *CHOSEN]
    for outcome in outcomes:
        assert set(outcome["tar"]) == {"source 16", "target 16"}
        assert -1 <= outcome["identity"]["target"] < 1
    assert outcomes[1]["psnr"] > outcomes[0]["psnr"]
    assert all(name in told.output for name in CHOSEN)
    log = (tmp_path / "g-source-alone" / "validation.csv").read_text().splitlines()
    assert len(log) == 3  # header, before the first step, after the last

    # The run of a variant is a run: its curve can be had.
    monkeypatch.setattr(export, "SIDES", (16, 28))
    monkeypatch.setattr(export, "DOMAINS", {"area": report.DOMAINS["area"]})
    run = ["--run", str(tmp_path / "g-source-alone"), "--out", str(tmp_path / "made")]
    told = CliRunner().invoke(export.app, [*run, *common, "--resamples", "5"])
    assert told.exit_code == 0, told.output
    curve = json.loads((tmp_path / "made" / export.CURVE_FILE).read_text())
    assert [point["side"] for point in curve["points"]] == [16, 28]
    assert [gain["fmr"] for gain in curve["points"][0]["gains"]] == [0.01, 0.001]
    assert (tmp_path / "made" / export.MODEL_FILE).is_file()
    assert (tmp_path / "made" / export.CURVE_PICTURE).is_file()
