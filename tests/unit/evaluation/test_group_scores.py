"""False matches by group: reading labels, bands of age, rates and their intervals."""

from __future__ import annotations

import csv
import io
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from services.evaluation import PairsError
from services.evaluation.groups import MOST, group_scores, read_labelled

_LABELS = [("18", "female", "A"), ("44", "male", "A"), ("45", "male", "B"), ("", "", "")]


def folder_of(path: Path, labels: list[tuple[str, str, str]], *, left_out: int = -1) -> Path:
    path.mkdir()
    with tarfile.open(path / "toy.tar", "w") as tar:
        for number in range(len(labels)):
            if number == left_out:
                continue
            picture = np.full((16, 16, 3), 200, np.uint8)
            picture[4:12, 4:12] = (0, 0, 10 * number)  # blue, green, red
            data = cv2.imencode(".png", picture)[1].tobytes()
            info = tarfile.TarInfo(f"toy/{number}.png")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    with (path / "index.tsv").open("w", newline="") as file:
        writer = csv.writer(file, delimiter="\t")
        writer.writerow(["path", "person", "age", "gender", "ethnicity"])
        writer.writerows([f"toy/{n}.png", "", *label] for n, label in enumerate(labels))
    return path


def units(rows: list[list[float]]) -> NDArray[np.float32]:
    made = np.array(rows, np.float32)
    return np.asarray(made / np.linalg.norm(made, axis=1, keepdims=True), np.float32)


def test_labelled_faces_are_read_and_cut_to_their_middle(tmp_path: Path) -> None:
    faces = read_labelled(folder_of(tmp_path / "data", _LABELS), side=8)
    assert faces.crops.shape == (3, 8, 8, 3)
    assert [tuple(crop[0, 0]) for crop in faces.crops] == [(0, 0, 0), (10, 0, 0), (20, 0, 0)]
    assert faces.groups == {
        "gender": ["female", "male", "male"],
        "ethnicity": ["A", "A", "B"],
        "age": ["18-29", "30-44", "45-59"],
    }


@pytest.mark.parametrize("damage", ["no index", "no labels", "picture missing", "too small"])
def test_what_cannot_be_used_is_said(tmp_path: Path, damage: str) -> None:
    labels = [("", "", "")] if damage == "no labels" else _LABELS
    folder = folder_of(tmp_path / "data", labels, left_out=1 if damage == "picture missing" else -1)
    if damage == "no index":
        (folder / "index.tsv").unlink()
    with pytest.raises(PairsError):
        read_labelled(folder, side=17 if damage == "too small" else 8)


def test_rates_are_those_of_the_comparisons_within_each_group() -> None:
    vectors = units([[1, 0], [1, 0.1], [0, 1], [1, 0], [-1, 0]])
    groups = {"gender": ["a", "a", "a", "b", "b"], "age": ["", "", "", "x", ""]}
    found = {(one.attribute, one.group): one for one in group_scores(vectors, groups, 0.9)}
    assert found[("gender", "a")].comparisons == 3
    assert found[("gender", "a")].fmr == pytest.approx(1 / 3)
    assert found[("gender", "b")].mean == pytest.approx(-1.0)
    assert found[("all", "all")].fmr == pytest.approx(3 / 10)
    assert found[("age", "x")].comparisons == 0
    assert ("age", "") not in found


def test_the_interval_holds_the_rate_and_shrinks_with_more_faces() -> None:
    rng = np.random.default_rng(0)
    widths = []
    for count in (100, 1600):
        vectors = units(rng.standard_normal((count, 8)).tolist())
        (one,) = group_scores(vectors, {}, 0.5)
        low, high = one.interval
        assert low < one.fmr < high
        widths.append(high - low)
    assert widths[1] < widths[0] / 2


def test_large_groups_are_sampled() -> None:
    vectors = units(np.random.default_rng(1).standard_normal((MOST + 50, 4)).tolist())
    (one,) = group_scores(vectors, {}, 0.5)
    assert one.faces == MOST
    assert one.comparisons == MOST * (MOST - 1) // 2
