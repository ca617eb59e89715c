from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="PoseFace trains with torch: pip install mien[train]")
pytest.importorskip("onnx", reason="PoseFace's export needs onnx: pip install mien[train]")

import torch

from models.poseface.ablate import VARIANTS, Outcome, outcome_table
from models.poseface.options import profile_options
from models.training.faces import load_faces
from models.training.validation import BINS, Validation, tar_intervals


def test_the_variants_differ_in_margin_and_pose_alone() -> None:
    full = profile_options("cpu").model_dump()
    switched = {
        name: {
            k for k, v in profile_options("cpu", dict(changes)).model_dump().items() if v != full[k]
        }
        for name, changes in VARIANTS.items()
    }
    assert switched["poseface"] == set()
    assert switched["arcface-paa"] == {"pose_weight", "orth_weight"}
    assert switched["arcface-pose"] == {"margin_gain"}
    assert switched["arcface"] == switched["arcface-paa"] | switched["arcface-pose"]


def test_intervals_hold_the_estimate_and_narrow_to_a_point_when_all_is_right(
    data_folder: Path, tmp_path: Path
) -> None:
    faces = load_faces(data_folder, tmp_path)
    held = np.arange(16)
    people = np.array(faces.people)[held]
    right = torch.nn.functional.one_hot(torch.from_numpy(held // 4), 4).float()
    validation = Validation(faces, held, right)
    spans = tar_intervals(validation, people, right)
    assert set(spans) <= set(BINS)
    assert all((s.low, s.estimate, s.high) == (1, 1, 1) for s in spans.values())
    noisy = tar_intervals(validation, people, right + torch.randn(16, 4))
    assert all(s.low <= s.estimate <= s.high for s in noisy.values())
    assert outcome_table([Outcome("teacher", spans, {})]).row_count == 1
