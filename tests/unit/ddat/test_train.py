import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs torch: pip install mien[train]")
pytest.importorskip("onnx", reason="training needs onnx: pip install mien[train]")
pytest.importorskip("onnxscript", reason="torch's exporter needs onnxscript: mien[train]")

import onnxruntime
import torch
from typer.testing import CliRunner

from models.ddat import command, export
from models.ddat.degradations import decimate, network_input
from models.ddat.objective import stage_of
from models.ddat.options import GPU_CHANGES, TrainOptions, profile_options
from models.ddat.train import Trainer
from models.training.checkpoint import load_checkpoint, read_options
from models.training.errors import TrainingError
from models.training.onnx_export import sample_pictures
from models.zoo.fetch import file_sha256

TINY = {
    "holdout_other": 0.0,
    "width": 8, "discriminator_width": 4, "batch": 2, "epochs": 1.0, "limit": 6, "amp": False,
    "pretrain": 0.3, "vat_every": 1, "vat_from": 0.0, "workers": 1, "validate_steps": 1000,
    "merge_above": 1.0, "label_floor": -1.0, "min_images": 1,
}  # fmt: skip


def options(**changes: object) -> TrainOptions:
    return profile_options("cpu", {**TINY, **changes})


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

    def stop_after_two(batch: Any) -> dict[str, float]:
        values = step(batch)
        first.stopping = first.step == 2
        return values

    monkeypatch.setattr(first, "train_step", stop_after_two)
    first.run()
    assert first.step == 2
    second = trainer("cut")
    second.run()

    assert second.step == whole.step == 3
    one = load_checkpoint(tmp_path / "whole" / "checkpoint.pt")
    two = load_checkpoint(tmp_path / "cut" / "checkpoint.pt")
    for part in ("generator", "average", "adaptor", "discriminator", "verifier"):
        for name, value in one[part].items():
            assert torch.equal(value, two[part][name]), f"{part} {name}"
    assert not any(name.startswith("trunk.") for name in one["verifier"])
    record = json.loads((tmp_path / "whole" / "run.json").read_text())
    assert record["source_faces"] + record["target_faces"] == record["training_faces"] == 26
    assert read_options(tmp_path / "whole" / "run.json", TrainOptions) == options()
    sheet = cv2.imread(str(tmp_path / "whole" / "sheet-000003.jpg"))
    assert sheet is not None
    assert sheet.shape == (4 * 4 * 116, 4 * 116, 3)


def released() -> Path:
    """ddat@1; its weights were stored in half precision, its norms folded."""
    return Path(__file__).parents[3] / "models" / "zoo" / "ddat" / "1" / "ddat.onnx"


def test_a_run_may_begin_with_an_exported_generator(
    data_folder: Path, zoo_poseface: Path, cache: Path, tmp_path: Path
) -> None:
    chosen = options(width=32)
    trainer = Trainer(chosen, data_folder, tmp_path, cache, zoo_poseface, released())
    batch = next(trainer.batches.iterate(0, 1))
    seen = torch.cat([batch.source, batch.target])
    images = torch.cat([seen, sample_pictures(2, 112) / 127.5 - 1])
    session = onnxruntime.InferenceSession(str(released()))
    theirs = session.run(["enhanced"], {"image": images.numpy()})[0]
    generator = trainer.networks.generator.eval()
    with torch.no_grad():
        np.testing.assert_allclose(generator(images).image.numpy(), theirs, atol=1e-3)
        averaged = trainer.average.network.eval()(images).image.numpy()
        np.testing.assert_allclose(averaged, theirs, atol=1e-3)
        # With a batch's own statistics it draws nearly the same, and surely no less than by chance.
        drawn = generator.train()(seen).image.numpy() - seen.numpy()
    wanted = theirs[: len(seen)] - seen.numpy()
    assert np.abs(wanted).mean() > 0.01
    assert np.corrcoef(drawn.ravel(), wanted.ravel())[0, 1] > 0.7
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["begun_with_sha256"] == file_sha256(released())


def test_what_was_exported_can_be_begun_with(
    data_folder: Path, zoo_poseface: Path, cache: Path, tmp_path: Path
) -> None:
    first = Trainer(options(), data_folder, tmp_path / "first", cache, zoo_poseface)
    first.run()
    common = ["--run", str(tmp_path / "first"), "--out", str(tmp_path), "--precision", "fp32"]
    assert CliRunner().invoke(export.app, common).exit_code == 0
    chosen = [
        f"--{name.replace('_', '-')}={value}" for name, value in TINY.items() if name != "amp"
    ]
    arguments = [
        "--data", str(data_folder), "--out", str(tmp_path / "second"), "--cache", str(cache),
        "--start", str(zoo_poseface), "--generator", str(tmp_path / "ddat.onnx"), "--no-amp",
    ]  # fmt: skip
    answer = CliRunner().invoke(command.app, [*arguments, *chosen])
    assert answer.exit_code == 0, answer.output
    record = json.loads((tmp_path / "second" / "run.json").read_text())
    assert record["begun_with_sha256"] == file_sha256(tmp_path / "ddat.onnx")


def test_a_run_begins_with_no_other_network(
    data_folder: Path, zoo_poseface: Path, cache: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no network")
    for path, changes, told in (
        (released(), {}, "no generator of this width and norm"),
        (released(), {"width": 32, "norm": "group"}, "no generator of this width and norm"),
        (zoo_poseface, {}, "no generator of this width and norm"),
        (broken, {}, "no ONNX file"),
    ):
        with pytest.raises(TrainingError, match=told):
            Trainer(options(**changes), data_folder, tmp_path, cache, zoo_poseface, path)


EVERY_LOSS = {
    "l1", "identity", "feature", "consistency", "consistency_target", "classification",
    "g_source", "g_target", "adaptor", "v_class", "centre", "vat", "d_real", "d_source", "d_target",
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "gone", "more"),
    [
        ({}, set(), set()),
        (
            {"joint": False, "adversary": "swapped", "adaptor": "lsq"},
            set(),
            {"confusion", "v_made"},
        ),
        (
            {"gan": "lsq", "r1_weight": 0.1, "norm": "group", "verifier_stages": 0},
            set(),
            {"r1"},
        ),
        (
            {"upsampling": "nearest", "residual": False, "lr_verifier": 0.0, "skip_first": False},
            {"v_class", "centre", "vat"},
            set(),
        ),
        (
            {"adaptor_weight": 0.0, "target_weight": 0.0, "consistency_weight": 0.0,
             "vat_weight": 0.0, "identity_weight": 0.0, "feature_weight": 0.0},
            {"adaptor", "g_target", "d_target", "consistency", "consistency_target", "vat",
             "identity", "feature"},
            set(),
        ),
        (
            {"pretrain": 1.0},
            EVERY_LOSS - {"l1", "identity", "feature", "consistency"},
            set(),
        ),
    ],
    ids=["default", "in turns", "lsgan", "paper's input", "source alone", "pretraining"],
)  # fmt: skip
def test_every_kind_of_run_learns_what_it_should_from_the_losses_it_should(
    changes: dict[str, object],
    gone: set[str],
    more: set[str],
    data_folder: Path,
    zoo_poseface: Path,
    cache: Path,
    tmp_path: Path,
) -> None:
    chosen = options(**{"pretrain": 0.0, "limit": 2, **changes})
    trainer = Trainer(chosen, data_folder, tmp_path, cache, zoo_poseface)
    networks = trainer.networks
    parts = {
        "generator": networks.generator, "adaptor": networks.adaptor,
        "discriminator": networks.discriminator, "verifier": networks.verifier,
    }  # fmt: skip
    before = {k: {n: v.clone() for n, v in x.state_dict().items()} for k, x in parts.items()}
    row = trainer.train_step(trainer.batches.make(0))

    moved = {
        part
        for part, network in parts.items()
        if any(not torch.equal(v, before[part][n]) for n, v in network.state_dict().items())
    }
    filled = set(row) - {"step", "epoch", "rate", "total", "lambda_a", "adaptor_accuracy"}
    assert filled == (EVERY_LOSS - gone) | more
    assert all(np.isfinite(value) for value in row.values())
    wanted = {"generator", "adaptor", "discriminator", "verifier"}
    if "adaptor" in gone:
        wanted -= {"adaptor"}
    if "d_real" in gone:
        wanted -= {"discriminator"}
    if "v_class" in gone:
        wanted -= {"verifier"}
    assert moved == wanted
    trunk = [n for n in before["verifier"] if n.startswith("trunk.")]
    after = networks.verifier.state_dict()
    assert all(torch.equal(before["verifier"][n], after[n]) for n in trunk)


def test_a_step_that_is_not_finite_changes_nothing(
    data_folder: Path, zoo_poseface: Path, cache: Path, tmp_path: Path
) -> None:
    trainer = Trainer(options(pretrain=1.0), data_folder, tmp_path, cache, zoo_poseface)
    before = [p.clone() for p in trainer.networks.generator.parameters()]
    batch = trainer.batches.make(0)
    trainer.train_step(batch._replace(good=batch.good * float("nan")))
    after = list(trainer.networks.generator.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert trainer.bad_steps == 1


def test_the_parts_of_a_run_begin_when_the_spec_says() -> None:
    chosen = options(pretrain=0.2, vat_from=0.4, vat_every=2)
    early, middle, late = (stage_of(chosen, step, 100) for step in (19, 20, 99))
    assert not any((early.game, early.target, early.verifier, early.vat))
    assert middle.game
    assert middle.target
    assert middle.vat
    assert middle.adaptor_weight == 0
    assert 0.0999 < late.adaptor_weight <= 0.1
    assert (stage_of(chosen, 39, 100).vat_weight, late.vat_weight) == (0.1, 1.0)
    assert not stage_of(chosen, 21, 100).vat


def test_a_generator_learns_to_undo_what_was_done(
    data_folder: Path, zoo_poseface: Path, cache: Path, tmp_path: Path
) -> None:
    chosen = options(
        pretrain=1.0, identity_weight=0.0, feature_weight=0.0, consistency_weight=0.0,
        l1_weight=100.0, lr=2e-3, beta1=0.5, decay=0.0, limit=2, epochs=25.0,
    )  # fmt: skip
    trainer = Trainer(chosen, data_folder, tmp_path, cache, zoo_poseface)
    batch = trainer.batches.make(0)
    lost = [trainer.train_step(batch)["l1"] for _ in range(25)]
    assert lost[-1] < 0.8 * lost[0]


def test_the_exported_file_draws_as_the_averaged_generator(
    data_folder: Path, zoo_poseface: Path, cache: Path, tmp_path: Path
) -> None:
    trainer = Trainer(options(limit=2), data_folder, tmp_path, cache, zoo_poseface)
    torch.nn.init.normal_(trainer.average.network.d1.weight, 0, 0.2)
    dense = trainer.networks.verifier.dense
    assert dense is not None
    torch.nn.init.normal_(dense.weight, 0, 0.01)
    trainer.save()
    run = ["--run", str(tmp_path), "--out", str(tmp_path / "onnx"), "--verifier"]
    made = CliRunner().invoke(export.app, run)
    assert made.exit_code == 2
    assert "need --start" in made.output
    made = CliRunner().invoke(export.app, [*run, "--start", str(zoo_poseface)])
    assert made.exit_code == 0, made.output

    session = onnxruntime.InferenceSession(str(tmp_path / "onnx" / export.MODEL_FILE))
    small = decimate(np.asarray(trainer.people.faces.crops[0][8:120, 8:120]), 28)
    image = np.stack([network_input(small, "bicubic")] * 3)
    (enhanced,) = session.run(["enhanced"], {"image": image})
    with torch.no_grad():
        ours = trainer.average.network(torch.from_numpy(image)).image.numpy()
    assert enhanced.shape == (3, 3, 112, 112)
    np.testing.assert_allclose(enhanced, ours, atol=0.01)
    assert np.abs(enhanced - image).mean() > 0.01
    assert np.abs(enhanced).max() <= 1

    session = onnxruntime.InferenceSession(str(tmp_path / "onnx" / export.VERIFIER_FILE))
    (embedding,) = session.run(["embedding"], {"data": ((image + 1) * 127.5).astype(np.float32)})
    with torch.no_grad():
        own = trainer.networks.verifier(torch.from_numpy(image)).own.numpy()
    cosine = (embedding * own).sum(axis=1) / np.linalg.norm(embedding, axis=1)
    assert cosine.min() > 0.999


def test_every_option_of_the_model_is_an_option_of_the_command() -> None:
    shown = CliRunner().invoke(command.app, ["--help"], env={"COLUMNS": "300"}).output
    for name in TrainOptions.model_fields:
        if name != "augmentation":
            assert f"--{name.replace('_', '-')}" in shown


def test_the_gpu_profile_is_the_specs_width() -> None:
    gpu = profile_options("gpu")
    assert (gpu.width, gpu.discriminator_width) == (64, 64)
    assert set(GPU_CHANGES) <= set(TrainOptions.model_fields)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--width", "12"], "width"),
        (["--size-from", "70"], "size_from must not be above size_to"),
        (
            [
                *("--l1-weight", "0", "--identity-weight", "0"),
                *("--feature-weight", "0", "--consistency-weight", "0"),
            ],
            "must be above 0",
        ),
    ],
    ids=["width", "sizes", "nothing"],
)
def test_a_wrong_value_is_named(
    given: list[str], told: str, data_folder: Path, zoo_poseface: Path, tmp_path: Path
) -> None:
    common = ["--data", str(data_folder), "--out", str(tmp_path), "--start", str(zoo_poseface)]
    answer = CliRunner().invoke(command.app, [*common, *given], env={"COLUMNS": "300"})
    assert answer.exit_code == 2
    assert told in answer.output
