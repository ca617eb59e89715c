from pathlib import Path

import pytest

pytest.importorskip("torch", reason="training needs torch: pip install mien[train]")
pytest.importorskip("onnx", reason="training needs onnx: pip install mien[train]")

from models.drgan.ablate import FACES, VARIANTS, outcome_table, run_variant
from models.drgan.options import profile_options
from models.drgan.train import Trainer


def test_every_variant_sees_as_many_faces_in_a_step() -> None:
    for changes in VARIANTS.values():
        options = profile_options("cpu", dict(changes))
        assert options.people * options.images == FACES


def test_a_variant_is_measured_beside_its_teacher(
    data_folder: Path, zoo_poseface: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The toy people's source is called "toy"; hold some of them out.
    options = profile_options(
        "cpu",
        {
            "width": 0.125, "people": 2, "images": 2, "epochs": 1.0, "amp": False, "noise": 4,
            "warm_epochs": 0.0, "merge_above": 1.0, "label_floor": -1.0,
        },
    )  # fmt: skip
    monkeypatch.setattr(type(options), "holdout", lambda _: {"toy": 0.5})
    trainer = Trainer(options, data_folder, tmp_path / "run", tmp_path / "cache", zoo_poseface)
    mine, teacher = run_variant(trainer, "some")

    assert mine.name == "some"
    assert set(mine.tar) == set(teacher.tar)
    assert -1 <= mine.weight_blur <= 1
    table = outcome_table([teacher, mine])
    assert table.row_count == 2
