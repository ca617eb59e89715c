from pathlib import Path

import cv2
import numpy as np
import pytest


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Decoded toy faces and what the teacher says of them, shared by all tests."""
    return tmp_path_factory.mktemp("nir-cache")


@pytest.fixture(scope="session")
def drawn_face() -> np.ndarray:
    """A face drawn by hand in the template's place: skin, hair, lips, eyes, blue wall."""
    face = np.full((112, 112, 3), (70, 90, 150), np.uint8)
    cv2.ellipse(face, (56, 66), (36, 48), 0, 0, 360, (205, 150, 120), -1)
    cv2.ellipse(face, (56, 22), (38, 20), 0, 0, 360, (35, 25, 22), -1)
    cv2.ellipse(face, (56, 92), (15, 4), 0, 0, 360, (170, 70, 75), -1)
    for x, y in ((38, 52), (74, 52)):
        cv2.circle(face, (x, y), 4, (60, 38, 28), -1)
        cv2.circle(face, (x, y), 1, (5, 5, 5), -1)
    return face


@pytest.fixture(scope="session")
def finished_run(
    data_folder: Path, zoo_poseface: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A run's folder as training leaves it, with generators that change what they are given."""
    torch = pytest.importorskip("torch", reason="training needs torch: pip install mien[train]")
    pytest.importorskip("onnxscript", reason="torch's exporter needs onnxscript: mien[train]")
    from models.nir_cyclegan.options import profile_options  # noqa: PLC0415 - needs torch
    from models.nir_cyclegan.train import Trainer  # noqa: PLC0415

    options = profile_options(
        "cpu",
        {
            "width": 4, "blocks": 1, "discriminator_width": 4, "batch": 1, "pairs": 2,
            "nir_share": 0.7, "grey": False, "merge_above": 1.0, "label_floor": -1.0,
            "min_images": 1, "he": "vis_domain", "holdout_other": 0.0,
        },
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("run")
    trainer = Trainer(options, data_folder, folder, cache, zoo_poseface)
    torch.manual_seed(3)
    for average in trainer.averages.values():
        torch.nn.init.normal_(average.network.last.weight, 0, 0.05)
    trainer.save()
    return folder
