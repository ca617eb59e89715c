import csv
import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="PoseFace trains with torch: pip install mien[train]")
pytest.importorskip("onnx", reason="PoseFace's export needs onnx: pip install mien[train]")

import torch
from typer.testing import CliRunner

from models.poseface.command import app
from models.poseface.options import TrainOptions
from models.poseface.train import Trainer
from models.training.checkpoint import load_checkpoint, read_options
from models.training.errors import TrainingError
from tests.unit.poseface.samples import TINY, options


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "losses.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_stopped_run_goes_on_bit_by_bit(
    data_folder: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Trainer(options(), data_folder, tmp_path / "whole", cache, None)
    whole.run()

    first = Trainer(options(), data_folder, tmp_path / "cut", cache, None)
    step = first.train_step

    def stop_after_three(batch: object) -> dict[str, float]:
        values = step(batch)  # type: ignore[arg-type]
        first.stopping = first.step == 3
        return values

    monkeypatch.setattr(first, "train_step", stop_after_three)
    first.run()
    assert first.step == 3
    second = Trainer(options(), data_folder, tmp_path / "cut", cache, None)
    second.run()

    assert second.step == whole.step == 6
    one = load_checkpoint(tmp_path / "whole" / "checkpoint.pt")
    two = load_checkpoint(tmp_path / "cut" / "checkpoint.pt")
    for part in ("network", "average", "objective"):
        for name, value in one[part].items():
            assert torch.equal(value, two[part][name]), name
    states = zip(
        one["optimiser"]["state"].values(), two["optimiser"]["state"].values(), strict=True
    )
    assert all(torch.equal(a["exp_avg"], b["exp_avg"]) for a, b in states)


def test_a_run_records_what_made_it(data_folder: Path, cache: Path, tmp_path: Path) -> None:
    chosen = options(seed=9)
    trainer = Trainer(chosen, data_folder, tmp_path, cache, None)
    trainer.run()
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["options"]["seed"] == 9
    assert record["data_fingerprint"] == trainer.material.faces.fingerprint
    assert record["git_revision"]
    assert record["classes"] == trainer.material.split.classes
    assert read_options(tmp_path / "run.json", TrainOptions) == chosen
    assert (tmp_path / "losses.png").stat().st_size > 0


def test_a_loss_that_is_not_finite_changes_no_weight(
    data_folder: Path, cache: Path, tmp_path: Path
) -> None:
    trainer = Trainer(options(), data_folder, tmp_path, cache, None)
    batch = trainer.batches.make(0)
    before = {name: value.clone() for name, value in trainer.network.named_parameters()}
    trainer.train_step(batch._replace(landmarks=batch.landmarks * float("nan")))
    after = dict(trainer.network.named_parameters())
    assert trainer.bad_steps == 1
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    trainer.train_step(batch)
    assert trainer.bad_steps == 0


def test_a_run_without_any_finite_loss_gives_up(
    data_folder: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.training.loop.MAX_BAD_STEPS", 2)
    trainer = Trainer(options(), data_folder, tmp_path, cache, None)
    batch = trainer.batches.make(0)
    broken = batch._replace(landmarks=batch.landmarks * float("nan"))
    trainer.train_step(broken)
    with pytest.raises(TrainingError, match="2 steps"):
        trainer.train_step(broken)


def test_training_lowers_the_loss(data_folder: Path, cache: Path, tmp_path: Path) -> None:
    chosen = options(epochs=6.0, augmentation={"turn": 0, "occlusion": 0, "low_resolution": 0})
    trainer = Trainer(chosen, data_folder, tmp_path, cache, None)
    batch = trainer.batches.make(0)
    values = [trainer.train_step(batch)["paa"] for _ in range(12)]
    assert values[-1] < values[0]


def test_frozen_stages_and_frozen_norms_stay(
    data_folder: Path, cache: Path, tmp_path: Path
) -> None:
    trainer = Trainer(options(freeze_stages=3, norm="frozen"), data_folder, tmp_path, cache, None)
    stages = trainer.network.trunk.stages()
    held = [p.clone() for stage in stages[:3] for p in stage.parameters()]
    moving = [p.clone() for p in stages[-1].parameters()]
    statistics = trainer.network.trunk.state_dict()
    means = {k: v.clone() for k, v in statistics.items() if k.endswith("running_mean")}
    trainer.train_step(trainer.batches.make(0))
    kept = [p for stage in stages[:3] for p in stage.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(held, kept, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(moving, stages[-1].parameters(), strict=True))
    now = trainer.network.trunk.state_dict()
    assert all(torch.equal(value, now[name]) for name, value in means.items())


def test_the_command_shows_every_option() -> None:
    shown = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200", "TERM": "dumb"}).output
    for name in TrainOptions.model_fields:
        if name != "augmentation":
            assert name.replace("_", "-") in shown, name
    assert "--augment-near-infrared" in shown


def test_the_command_trains(data_folder: Path, cache: Path, tmp_path: Path) -> None:
    words = ["--data", data_folder, "--out", tmp_path, "--cache", cache]
    for name, value in TINY.items():
        flag = name.replace("_", "-")
        words += [f"--no-{flag}"] if value is False else [f"--{flag}", value]
    done = CliRunner().invoke(app, [str(word) for word in [*words, "--augment-turn", "0"]])
    assert done.exit_code == 0, done.output
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["options"]["augmentation"]["turn"] == 0
    assert np.isfinite(float(rows(tmp_path)[-1]["total"]))


def test_margins_beyond_the_limit_are_refused_by_the_command(
    data_folder: Path, tmp_path: Path
) -> None:
    words = ["--data", str(data_folder), "--out", str(tmp_path), "--base-margin", "0.65"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 2
    assert "0.7" in done.output
