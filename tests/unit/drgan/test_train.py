import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs torch: pip install mien[train]")
pytest.importorskip("onnx", reason="training needs onnx: pip install mien[train]")
pytest.importorskip("onnxscript", reason="torch's exporter needs onnxscript: mien[train]")

import onnxruntime
import torch
from typer.testing import CliRunner

from models.drgan import command, export
from models.drgan.options import TrainOptions, profile_options
from models.drgan.train import Trainer
from models.drgan.warm import Student, start_discriminator
from models.training.checkpoint import load_checkpoint, read_options

TINY = {
    "holdout_other": 0.0,
    "encoder": "paper", "width": 0.125, "people": 3, "images": 2, "epochs": 3.0, "amp": False,
    "warm_epochs": 1.0, "warm_batch": 8, "workers": 1, "validate_steps": 1000, "noise": 4,
    "turned_repeat": 1, "merge_above": 1.0, "label_floor": -1.0,
}  # fmt: skip


def options(**changes: object) -> TrainOptions:
    return profile_options("cpu", {**TINY, **changes})


@pytest.fixture
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.getbasetemp() / "drgan-cache"


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "losses.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_stopped_run_goes_on_bit_by_bit(
    data_folder: Path,
    zoo_poseface: Path,
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def trainer(out: str) -> Trainer:
        return Trainer(options(), data_folder, tmp_path / out, cache, zoo_poseface)

    whole = trainer("whole")
    whole.run()

    first = trainer("cut")
    step = first.train_step

    def stop_after_three(batch: object) -> dict[str, float]:
        values = step(batch)  # type: ignore[arg-type]
        first.stopping = first.step == 3
        return values

    monkeypatch.setattr(first, "train_step", stop_after_three)
    first.run()
    assert first.step == 3
    second = trainer("cut")
    second.run()

    assert second.step == whole.step == 6
    one = load_checkpoint(tmp_path / "whole" / "checkpoint.pt")
    two = load_checkpoint(tmp_path / "cut" / "checkpoint.pt")
    for part in ("generator", "average", "discriminator"):
        for name, value in one[part].items():
            assert torch.equal(value, two[part][name]), name
    record = json.loads((tmp_path / "whole" / "run.json").read_text())
    assert sum(record["faces_per_bin"].values()) == record["labelled_faces"] == 24
    assert read_options(tmp_path / "whole" / "run.json", TrainOptions) == options()
    sheet = cv2.imread(str(tmp_path / "whole" / "sheet-000006.jpg"))
    assert sheet is not None
    assert sheet.shape == (3 * 100, (1 + len(record["yaw_bins"])) * 100, 3)


@pytest.mark.parametrize(
    "changes",
    [
        {"variant": "tpami18"},
        {"images": 1},
        {"adversarial_weight": 0.0},
        {"encoder": "pretrained", "warm_epochs": 0.0},
    ],
    ids=["tpami18", "single image", "l2 alone", "pretrained"],
)
def test_every_kind_of_run_changes_its_weights_and_exports(
    changes: dict[str, object],
    data_folder: Path,
    zoo_poseface: Path,
    cache: Path,
    tmp_path: Path,
) -> None:
    chosen = options(**{"epochs": 1.0, **changes})
    trainer = Trainer(chosen, data_folder, tmp_path, cache, zoo_poseface)
    before = {name: value.clone() for name, value in trainer.generator.state_dict().items()}
    trainer.run()

    after = trainer.generator.state_dict()
    learned = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert {"encoder", "decoder"} <= learned
    assert trainer.d_steps == (trainer.step if chosen.adversarial_weight else 0)

    made = CliRunner().invoke(export.app, ["--run", str(tmp_path), "--out", str(tmp_path / "onnx")])
    assert made.exit_code == 0, made.output
    session = onnxruntime.InferenceSession(str(tmp_path / "onnx" / "drgan.onnx"))
    face = np.random.default_rng(0).uniform(-1, 1, (3, 3, 96, 96)).astype(np.float32)
    embedding, weight = session.run(["embedding", "weight"], {"data": face})
    assert embedding.shape == (3, 320)
    assert weight.shape == (3, 1)
    assert ((weight > 0) & (weight < 1)).all()
    decoder = onnxruntime.InferenceSession(str(tmp_path / "onnx" / "decoder.onnx"))
    sides = {i.name: i.shape[1] for i in decoder.get_inputs()}
    codes = np.zeros((3, sides["pose"]), np.float32)
    noise = np.zeros((3, sides["noise"]), np.float32)
    (image,) = decoder.run(None, {"embedding": embedding, "pose": codes, "noise": noise})
    assert image.shape == (3, 3, 96, 96)
    assert np.abs(image).max() <= 1


def test_a_strong_discriminator_waits_for_the_generator(
    data_folder: Path, zoo_poseface: Path, cache: Path, tmp_path: Path
) -> None:
    chosen = options(warm_epochs=0.0)
    trainer = Trainer(chosen, data_folder, tmp_path, cache, zoo_poseface)
    trainer.accuracy = 1.0
    trainer.options = chosen.model_copy(update={"strong_at": 0.1})
    for step in range(4):
        trainer.train_step(trainer.batches.make(step))
    assert (trainer.step, trainer.d_steps) == (4, 1)
    trainer.options = chosen.model_copy(update={"strong_at": 1.0})
    for step in range(2):
        trainer.train_step(trainer.batches.make(step))
    assert (trainer.step, trainer.d_steps) == (6, 3)


def test_the_discriminator_starts_from_the_students_trunk_and_knows_the_people(
    data_folder: Path, zoo_poseface: Path, cache: Path, tmp_path: Path
) -> None:
    trainer = Trainer(options(), data_folder, tmp_path, cache, zoo_poseface)
    student = Student(8, 0.125)
    images = torch.rand(4, 3, 96, 96) * 2 - 1
    with torch.no_grad():
        directions = torch.nn.functional.normalize(student.eval()(images))
    centres = torch.zeros(trainer.discriminator.people, 8)
    centres[2] = directions[0]
    start_discriminator(trainer.discriminator, student, centres, images)

    judge = trainer.discriminator.eval()
    torch.testing.assert_close(
        judge.features(images), student.encoder.trunk(images).mean(dim=(2, 3))[:, :320]
    )
    assert judge(images[:1]).identity.argmax().item() == 2


def test_every_option_of_the_model_is_an_option_of_the_command() -> None:
    shown = CliRunner().invoke(command.app, ["--help"], env={"COLUMNS": "300"}).output
    for name in TrainOptions.model_fields:
        if name != "augmentation":
            assert f"--{name.replace('_', '-')}" in shown


def test_a_wrong_value_is_named(data_folder: Path, zoo_poseface: Path, tmp_path: Path) -> None:
    common = ["--data", str(data_folder), "--out", str(tmp_path), "--start", str(zoo_poseface)]
    told = CliRunner().invoke(command.app, [*common, "--people", "1"], env={"COLUMNS": "300"})
    assert told.exit_code == 2
    assert "people" in told.output
    nothing = ["--adversarial-weight", "0", "--l2-weight", "0"]
    told = CliRunner().invoke(command.app, [*common, *nothing], env={"COLUMNS": "300"})
    assert told.exit_code == 2
    assert "must be above 0" in told.output
