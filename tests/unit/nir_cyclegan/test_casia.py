from pathlib import Path

import cv2
import numpy as np
import pytest

from models.nir_cyclegan.casia import (
    CasiaPicture,
    Cut,
    chosen_pictures,
    find_pictures,
    read_protocol,
    write_faces,
)
from models.training.errors import DataError
from models.training.faces import load_faces

TEMPLATE = np.array([[46, 60], [81, 60], [64, 80], [50, 100], [79, 100]], np.float32)


@pytest.fixture
def casia(tmp_path: Path) -> Path:
    """Three subjects in two sessions, colour or grey noise."""
    root = tmp_path / "NIR-VIS-2.0"
    rng = np.random.default_rng(0)
    for session, light, suffix, subject, count in (
        ("s1", "VIS", "jpg", "00001", 4), ("s1", "NIR", "bmp", "00001", 10),
        ("s2", "NIR", "bmp", "00002", 3), ("s2", "VIS", "jpg", "00002", 1),
        ("s4", "NIR", "bmp", "20003", 2),
    ):  # fmt: skip
        folder = root / session / light / subject
        folder.mkdir(parents=True)
        for number in range(1, count + 1):
            picture = rng.integers(0, 255, (60, 80, 3)).astype(np.uint8)
            cv2.imwrite(str(folder / f"{number:03d}.{suffix}"), picture)
    (root / "s1" / "VIS" / "00001" / "eyes.txt").write_text("no picture")
    (root / "protocols").mkdir()
    cv2.imwrite(str(root / "protocols" / "cover.jpg"), picture)
    return root


def test_the_sets_folders_say_who_when_and_in_which_light(casia: Path) -> None:
    pictures = find_pictures(casia)
    assert len(pictures) == 20
    first = pictures[0]
    assert (first.session, first.light, first.subject) == ("s1", "NIR", "00001")
    assert first.path.name == "001.bmp"
    assert first.person == "casia/00001"
    cropped = casia.rename(casia.with_name("cropped"))
    (cropped / "s1" / "VIS").rename(cropped / "s1" / "VIS_128x128")
    assert len(find_pictures(cropped)) == 20


def test_another_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(DataError, match="s1 to s4"):
        find_pictures(tmp_path)


def test_the_papers_subjects_have_three_to_eight_pictures(casia: Path) -> None:
    pictures = find_pictures(casia)
    infrared = chosen_pictures(pictures, "NIR")
    assert [p.subject for p in infrared] == ["00001"] * 8 + ["00002"] * 3
    visible = chosen_pictures(pictures, "VIS")
    assert {p.subject for p in visible} == {"00001"}


def test_a_protocol_names_pictures_in_its_own_order(casia: Path) -> None:
    pictures = find_pictures(casia)
    file = casia / "protocols" / "nir_train_1.txt"
    file.write_text("s2\\NIR\\00002\\003.bmp\ns1/NIR/00001/002\n\ns1\\VIS\\00001\\001.jpg 0\n")
    listed = read_protocol(file, pictures)
    assert [(p.light, p.subject, p.path.stem) for p in listed] == [
        ("NIR", "00002", "003"), ("NIR", "00001", "002"), ("VIS", "00001", "001"),
    ]  # fmt: skip
    file.write_text("s3\\NIR\\00002\\003.bmp\n")
    with pytest.raises(DataError, match="not there"):
        read_protocol(file, pictures)


def test_cut_faces_become_training_data(casia: Path, tmp_path: Path) -> None:
    def cut(picture: np.ndarray) -> Cut | None:
        assert picture.shape == (60, 80, 3)
        calls.append(picture)
        if len(calls) == 2:
            return None
        return Cut(cv2.resize(picture, (128, 128)), TEMPLATE, 0.9, 60.0)

    calls: list[np.ndarray] = []
    chosen: list[CasiaPicture] = chosen_pictures(find_pictures(casia), "NIR")
    folder = tmp_path / "data"
    assert write_faces(chosen, cut, folder) == len(chosen) - 1
    faces = load_faces(folder, tmp_path / "cache")
    assert len(faces) == 10
    assert set(faces.people) == {"casia/00001", "casia/00002"}
    assert set(faces.sources()) == {"casia"}
    np.testing.assert_allclose(faces.points[0], TEMPLATE)
    np.testing.assert_array_equal(faces.crops[0], cv2.resize(calls[0], (128, 128)))
