from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs torch: pip install mien[train]")

import torch

from models.training.faces import load_faces
from models.training.validation import Validation, probe_r2, verify


def test_perfect_scores_are_perfect_and_useless_ones_are_chance() -> None:
    same = np.arange(2000) % 2 == 0
    perfect = verify(same.astype(np.float32), same)
    assert (perfect.accuracy, perfect.tar_1e3) == (1, 1)
    assert perfect.pairs == (1000, 1000)
    useless = verify(np.random.default_rng(0).random(2000).astype(np.float32), same)
    assert useless.accuracy < 0.55
    assert useless.tar_1e2 < 0.05


def test_the_rate_at_a_false_match_rate_counts_what_is_above_its_threshold() -> None:
    impostor = np.linspace(0, 0.999, 1000)
    genuine = np.array([0.5, 0.985, 0.995, 2.0])
    scores = np.concatenate([impostor, genuine]).astype(np.float32)
    same = np.arange(len(scores)) >= len(impostor)
    figures = verify(scores, same)
    assert figures.tar_1e2 == 0.5
    assert figures.tar_1e3 == 0.25


def test_without_genuine_pairs_there_is_no_figure() -> None:
    assert np.isnan(verify(np.zeros(3, np.float32), np.zeros(3, dtype=bool)).accuracy)


def test_pairs_are_counted_once_and_binned_by_the_wider_pose(
    data_folder: Path, tmp_path: Path
) -> None:
    faces = load_faces(data_folder, tmp_path)
    held = np.arange(12)
    person = torch.from_numpy(held // 4)
    teacher = torch.nn.functional.one_hot(person, 3).float()
    validation = Validation(faces, held, teacher)
    figures = validation.figures(teacher)
    assert figures["all"].pairs == (18, 48)
    assert figures["all"].accuracy == 1
    bins = [value for name, value in figures.items() if name.startswith("yaw")]
    assert sum(value.pairs[0] for value in bins) == 18


def test_people_that_the_teacher_cannot_tell_apart_give_no_impostor_pairs(
    data_folder: Path, tmp_path: Path
) -> None:
    faces = load_faces(data_folder, tmp_path)
    held = np.arange(8)
    validation = Validation(faces, held, torch.ones(8, 4))
    assert validation.figures(torch.ones(8, 4))["all"].pairs == (12, 0)


def test_the_probe_reads_what_is_linearly_there_and_nothing_else() -> None:
    torch.manual_seed(0)
    features = torch.randn(600, 10)
    target = (features[:, 0] * 20 + 5).numpy()
    target[3] = np.nan
    assert probe_r2(features, target) > 0.95
    assert probe_r2(features[:, 1:], target) < 0.05
