from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs torch: pip install mien[train]")

import torch

from models.poseface.batches import Batches
from models.training.augment import Augmentation
from models.training.errors import DataError
from models.training.faces import Faces, load_faces, split_people
from models.training.people import PeopleOptions
from models.training.teacher import class_centres, doubtful_labels, merged_people


@pytest.fixture(scope="module")
def faces(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Faces:
    return load_faces(data_folder, tmp_path_factory.mktemp("cache"))


def test_faces_come_in_the_order_of_the_index_with_their_pose(faces: Faces) -> None:
    assert len(faces) == 26
    assert faces.crops.shape == (26, 128, 128, 3)
    assert faces.paths[5] == "toy/p1/1.png"
    assert faces.people[5] == "toy/p1"
    assert faces.people[-1] == ""
    assert faces.euler[3, 1] > faces.euler[0, 1]


def test_the_second_opening_reads_the_cache(data_folder: Path, tmp_path: Path) -> None:
    first = load_faces(data_folder, tmp_path)
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npy")}
    assert np.array_equal(load_faces(data_folder, tmp_path).crops, first.crops)
    assert stamps == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npy")}


def test_a_picture_missing_from_the_tars_is_named(data_folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "data"
    copy.mkdir()
    (copy / "toy.tar").write_bytes((data_folder / "toy.tar").read_bytes())
    index = (data_folder / "index.tsv").read_text()
    (copy / "index.tsv").write_text(index.replace("toy/p2/0.png", "toy/p2/lost.png"))
    with pytest.raises(DataError, match=r"lost\.png"):
        load_faces(copy, tmp_path / "cache")


def test_a_folder_without_an_index_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="index"):
        load_faces(tmp_path, tmp_path)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda text: text.replace("person", "who", 1), "no column person"),
        (lambda text: text.splitlines()[0] + "\n", "names no picture"),
        (lambda text: text + text.splitlines()[1] + "\n", "twice"),
        (lambda text: text.rpartition("\t")[0] + "\tleft\n", "line 27: could not convert"),
        (lambda text: text.rpartition("\t")[0] + "\n", "line 27: could not convert"),
    ],
)
def test_a_bad_index_is_told_with_the_line(
    data_folder: Path, tmp_path: Path, change: Callable[[str], str], told: str
) -> None:
    index = (data_folder / "index.tsv").read_text()
    (tmp_path / "index.tsv").write_text(change(index))
    with pytest.raises(DataError, match=told):
        load_faces(tmp_path, tmp_path / "cache")


def test_people_of_sources_that_mien_does_not_know_are_held_out_too(faces: Faces) -> None:
    shares = PeopleOptions(holdout_other=0.5).holdout()
    assert shares["lfw"] == 0
    split = split_people(faces, shares, min_images=3)
    assert np.array_equal(
        split.validation, split_people(faces, {"toy": 0.5}, min_images=3).validation
    )
    assert len(split.validation)


def test_people_are_held_out_whole_and_always_the_same(faces: Faces) -> None:
    split = split_people(faces, {"toy": 0.5}, min_images=3)
    held = {faces.people[row] for row in split.validation}
    trained = {faces.people[row] for row in split.train}
    assert held
    assert trained - {""}
    assert not held & trained
    assert "" in trained
    assert (split.labels[split.validation] == -1).all()
    assert split.classes == len(trained - {""})
    subset = replace(faces, people=[p if p != "toy/p0" else "" for p in faces.people])
    again = split_people(subset, {"toy": 0.5}, min_images=3)
    assert {faces.people[row] for row in again.validation} == held - {"toy/p0"}


def test_people_with_too_few_trusted_images_stay_out_of_the_softmax(faces: Faces) -> None:
    doubted = np.zeros(len(faces), dtype=bool)
    doubted[:2] = True
    split = split_people(faces, {}, min_images=3, excluded=doubted)
    assert split.classes == 5
    assert (split.labels[:4] == -1).all()
    assert split.labels.max() == 4


def batches(faces: Faces, workers: int = 1) -> Batches:
    return Batches(faces, np.arange(len(faces)), Augmentation(), batch=4, seed=5, workers=workers)


def test_a_batch_does_not_depend_on_the_batches_before_it(faces: Faces) -> None:
    walked = list(batches(faces, workers=3).iterate(0, 9))
    jumped = next(batches(faces).iterate(8, 9))
    assert torch.equal(walked[8].images, jumped.images)
    assert torch.equal(walked[8].landmarks, jumped.landmarks)
    assert torch.equal(walked[8].rows, jumped.rows)


def test_an_epoch_visits_nobody_twice(faces: Faces) -> None:
    loader = batches(faces)
    rows = torch.cat([batch.rows for batch in loader.iterate(0, loader.steps_per_epoch)])
    assert len(set(rows.tolist())) == len(rows) == 24


def test_every_epoch_sees_all_rows_and_another_share_of_the_extra_ones(faces: Faces) -> None:
    rows, extra = np.arange(10), np.arange(10, 26)
    loader = Batches(faces, rows, Augmentation(), 2, 5, 1, extra, extra_share=0.25)
    assert loader.steps_per_epoch == 7
    seen = [
        {row for step in range(7 * epoch, 7 * epoch + 7) for row in loader.make(step).rows.tolist()}
        for epoch in range(3)
    ]
    assert all(len(epoch) == 14 and set(range(10)) < epoch for epoch in seen)
    assert seen[0] != seen[1]


def unit(*angles: float) -> torch.Tensor:
    radians = torch.tensor(angles).deg2rad()
    return torch.stack([radians.cos(), radians.sin()], dim=1)


def test_a_face_unlike_its_person_is_doubted_unless_spared() -> None:
    targets, people = unit(0, 5, 100, 40, 41), ["a", "a", "a", "b", "b"]
    nobody = np.zeros(5, dtype=bool)
    assert doubtful_labels(targets, people, 0.2, nobody).tolist() == [0, 0, 1, 0, 0]
    assert not doubtful_labels(targets, people, 0.2, ~nobody).any()


def test_two_names_of_one_person_become_one() -> None:
    targets = unit(0, 4, 6, 90, 2)
    assert merged_people(targets, ["b", "b", "a", "c", ""], 0.9) == ["a", "a", "a", "c", ""]


def test_frontal_faces_weigh_more_in_a_class_centre() -> None:
    centre = class_centres(unit(0, 90), np.array([0, 0]), 1, torch.tensor([1.0, 0.1]))
    assert centre[0, 0] > 0.98
