import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs torch: pip install mien[train]")
pytest.importorskip("onnx", reason="training needs onnx: pip install mien[train]")

import onnxruntime
import torch
from typer.testing import CliRunner

from models.nir_cyclegan import command
from models.nir_cyclegan.figures import FIGURES
from models.nir_cyclegan.options import GPU_CHANGES, PUBLISHED, TrainOptions, profile_options
from models.nir_cyclegan.pictures import Operation
from models.nir_cyclegan.train import Trainer
from models.training.checkpoint import load_checkpoint, read_options
from models.training.errors import TrainingError
from models.training.onnx_export import sample_pictures

TINY = {
    "holdout_other": 0.0,
    "width": 4, "blocks": 1, "discriminator_width": 4, "batch": 1, "pairs": 2, "epochs": 0.6,
    "nir_share": 0.7, "side": 64, "amp": False, "pretrain": 0.0, "pool": 1, "workers": 1,
    "validate_steps": 1000, "look_every": 1, "warmup": 0, "merge_above": 1.0, "label_floor": -1.0,
    "min_images": 1,
}  # fmt: skip

EVERY_LOSS = {
    "cycle_vis", "cycle_nir", "perceptual", "cycle_identity", "identity", "feature",
    "brightness", "g_nir", "g_vis", "d_nir", "d_vis",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _no_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.nir_cyclegan.train.draw", lambda *_: None)  # they cost seconds


def options(**changes: object) -> TrainOptions:
    return profile_options("cpu", {**TINY, **changes})


def test_a_stopped_run_goes_on_bit_by_bit(
    data_folder: Path,
    zoo_poseface: Path,
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(TrainOptions, "holdout", lambda _: {"toy": 0.4})
    chosen = options(pretrain=0.4, epochs=1.4)

    def trainer(out: str) -> Trainer:
        return Trainer(chosen, data_folder, tmp_path / out, cache, zoo_poseface)

    whole = trainer("whole")
    whole.run()
    assert whole.steps >= 2

    first = trainer("cut")
    step = first.train_step

    def stop_early(batch: Any) -> dict[str, float]:
        values = step(batch)
        first.stopping = first.step == whole.steps - 1
        return values

    monkeypatch.setattr(first, "train_step", stop_early)
    first.run()
    assert first.step == whole.steps - 1
    second = trainer("cut")
    second.run()

    assert second.step == whole.step
    one = load_checkpoint(tmp_path / "whole" / "checkpoint.pt")
    two = load_checkpoint(tmp_path / "cut" / "checkpoint.pt")
    assert not any("trunk" in name for name in one)
    for part in ("vis2nir", "nir2vis", "judge_nir", "judge_vis"):
        for name, value in one[part].items():
            assert torch.equal(value, two[part][name]), f"{part} {name}"
    assert len(one["optimisers"]["pools"]["nir"]) == 1
    assert torch.equal(one["optimisers"]["pools"]["nir"][0], two["optimisers"]["pools"]["nir"][0])

    folder = tmp_path / "whole"
    record = json.loads((folder / "run.json").read_text())
    assert (record["perc"], record["near_infrared"]) == ("face", "simulated")
    assert record["visible_faces"] + record["near_infrared_faces"] <= record["training_faces"]
    assert read_options(folder / "run.json", TrainOptions) == chosen
    sheet = cv2.imread(str(folder / f"sheet-{whole.step:06d}.jpg"))
    assert sheet is not None
    assert sheet.shape[1] == 9 * 116
    header, *rows = (folder / "validation.csv").read_text().splitlines()
    assert header.split(",") == ["step", *FIGURES]
    assert len(rows) == 2  # before the first step, after the last
    assert all(rows[-1].split(","))


@pytest.mark.parametrize(
    ("changes", "gone", "more"),
    [
        ({}, set(), set()),
        (PUBLISHED, {"identity", "feature", "brightness", "cycle_identity"}, set()),
        ({"mapping_weight": 5.0, "he": "f_branch"}, set(), {"mapping"}),
        ({"pretrain": 1.0}, {"g_nir", "g_vis", "d_nir", "d_vis"}, set()),
        (
            {"perceptual_weight": 0.0, "cycle_identity_weight": 0.0},
            {"perceptual", "cycle_identity"},
            set(),
        ),
    ],
    ids=["default", "published", "mapping", "first share", "no look back"],
)
def test_every_kind_of_run_learns_what_it_should_from_the_losses_it_should(
    changes: dict[str, object],
    gone: set[str],
    more: set[str],
    data_folder: Path,
    zoo_poseface: Path,
    cache: Path,
    tmp_path: Path,
) -> None:
    trainer = Trainer(options(**changes), data_folder, tmp_path, cache, zoo_poseface)
    networks = {**trainer.networks.learned(), "eyes": trainer.networks.eyes}
    before = {k: {n: v.clone() for n, v in x.state_dict().items()} for k, x in networks.items()}
    row = trainer.train_step(trainer.batches.make(0))

    moved = {
        part
        for part, network in networks.items()
        if any(not torch.equal(v, before[part][n]) for n, v in network.state_dict().items())
    }
    assert set(row) - {"step", "epoch", "rate", "total"} == (EVERY_LOSS - gone) | more
    assert all(np.isfinite(value) for value in row.values())
    judges = set() if "d_nir" in gone else {"judge_nir", "judge_vis"}
    assert moved == {"vis2nir", "nir2vis"} | judges


def test_looks_at_reconstructed_faces_may_be_further_apart(
    data_folder: Path, zoo_poseface: Path, cache: Path, tmp_path: Path
) -> None:
    trainer = Trainer(options(look_every=2), data_folder, tmp_path, cache, zoo_poseface)
    rows = [trainer.train_step(trainer.batches.make(step)) for step in range(2)]
    assert ["perceptual" in row for row in rows] == [False, True]
    assert ["cycle_identity" in row for row in rows] == [False, True]
    assert all("identity" in row for row in rows)


def test_rates_rise_stay_and_fall_to_nothing(
    data_folder: Path, zoo_poseface: Path, cache: Path, tmp_path: Path
) -> None:
    chosen = options(warmup=10, decay=0.5, lr=1e-3)
    game = Trainer(chosen, data_folder, tmp_path, cache, zoo_poseface).game
    factors = [game.set_rates(step, 100) for step in (0, 4, 9, 50, 75, 99)]
    assert factors == pytest.approx([0.1, 0.5, 1.0, 1.0, 0.5, 0.02])
    assert game.optimisers["g"].param_groups[0]["lr"] == pytest.approx(0.02 * 1e-3)


def test_a_step_that_is_not_finite_changes_nothing(
    data_folder: Path, zoo_poseface: Path, cache: Path, tmp_path: Path
) -> None:
    trainer = Trainer(options(pretrain=1.0), data_folder, tmp_path, cache, zoo_poseface)
    before = [p.clone() for p in trainer.networks.nir2vis.parameters()]
    batch = trainer.batches.make(0)
    trainer.train_step(batch._replace(vis=batch.vis * float("nan")))
    after = list(trainer.networks.nir2vis.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert trainer.bad_steps == 1


def test_a_generator_learns_the_way_back_from_near_infrared(
    data_folder: Path, zoo_poseface: Path, cache: Path, tmp_path: Path
) -> None:
    chosen = options(
        pretrain=1.0, identity_weight=0.0, feature_weight=0.0, perceptual_weight=0.0,
        cycle_identity_weight=0.0, lr=2e-3, decay=0.0,
    )  # fmt: skip
    trainer = Trainer(chosen, data_folder, tmp_path, cache, zoo_poseface)
    batch = trainer.batches.make(0)
    rows = [trainer.train_step(batch) for _ in range(30)]
    assert rows[-1]["brightness"] < 0.8 * rows[0]["brightness"]
    assert rows[-1]["cycle_vis"] < 0.95 * rows[0]["cycle_vis"]


def test_every_option_of_the_model_is_an_option_of_the_command() -> None:
    shown = CliRunner().invoke(command.app, ["--help"], env={"COLUMNS": "300"}).output
    for name in TrainOptions.model_fields:
        if name != "augmentation":
            assert f"--{name.replace('_', '-')}" in shown
    for name in ("--published", "--vgg16", "--nir-data", "--nir2vis", "--vis2nir"):
        assert name in shown


def released(operation: str) -> Path:
    """A translator of the zoo; its weights were stored in half precision."""
    return Path(__file__).parents[3] / "models" / "zoo" / operation / "1" / f"{operation}.onnx"


def test_a_run_may_begin_with_exported_generators(
    data_folder: Path, zoo_poseface: Path, cache: Path, tmp_path: Path
) -> None:
    chosen = profile_options("cpu", {**TINY, "side": 112, "width": 24, "blocks": 6})
    files: dict[Operation, Path] = {name: released(name) for name in ("nir2vis", "vis2nir")}
    trainer = Trainer(chosen, data_folder, tmp_path, cache, zoo_poseface, begin=files)
    images = sample_pictures(2, 112) / 127.5 - 1
    with torch.no_grad():
        whole, grey = trainer.translators().nir2vis(images), trainer.translators().vis2nir(images)
    half = torch.lerp(images, whole, 0.5)  # nir2vis@1 takes half of what it draws
    for ours, name in ((half, "nir2vis"), (grey, "vis2nir")):
        session = onnxruntime.InferenceSession(str(released(name)))
        theirs = session.run(["enhanced"], {"image": images.numpy()})[0]
        np.testing.assert_allclose(ours.numpy(), theirs, atol=1e-4)
    record = json.loads((tmp_path / "run.json").read_text())
    assert set(record["begun_with_sha256"]) == {"nir2vis", "vis2nir"}


def test_a_run_begins_with_no_other_network(
    data_folder: Path, zoo_poseface: Path, cache: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no network")
    for path, told in (
        (released("nir2vis"), "no generator of this width and depth"),
        (broken, "no ONNX file"),
    ):
        files: dict[Operation, Path] = {"nir2vis": path}
        with pytest.raises(TrainingError, match=told):
            Trainer(options(), data_folder, tmp_path, cache, zoo_poseface, begin=files)


def test_profiles_change_options_that_there_are() -> None:
    assert set(GPU_CHANGES) | set(PUBLISHED) <= set(TrainOptions.model_fields)
    gpu = profile_options("gpu")
    assert (gpu.width, gpu.side, gpu.blocks) == (64, 128, 6)
    paper = profile_options("gpu", dict(PUBLISHED))
    assert (paper.cycle_weight, paper.adversarial_weight, paper.pairs) == (10, 1, 0)
    assert paper.he == "vis_domain"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--side", "70"], "side"),
        (["--grey-share", "0.6", "--mild-share", "0.6"], "must not be above 1 together"),
        (["--cycle-weight", "0", "--pairs", "0"], "must be above 0"),
    ],
    ids=["side", "shares", "nothing"],
)
def test_a_wrong_value_is_named(
    given: list[str], told: str, data_folder: Path, zoo_poseface: Path, tmp_path: Path
) -> None:
    common = ["--data", str(data_folder), "--out", str(tmp_path), "--start", str(zoo_poseface)]
    answer = CliRunner().invoke(command.app, [*common, *given], env={"COLUMNS": "300"})
    assert answer.exit_code == 2
    assert told in answer.output
