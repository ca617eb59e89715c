"""Photographs become a folder that trainings and fits read: the real detector on real faces."""

import csv
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from models.training.errors import DataError
from models.training.faces import BORDER, load_faces
from models.zoo import Zoo
from services.cli.main import app
from services.gateway.alignment import CropGeometry
from services.gateway.faces import MEASURING_CROP, FaceChoice, Selection
from services.gateway.server import load_pipeline
from services.settings import Settings
from tests.integration.pictures import faceless, jpeg, portrait, side_by_side

CENTRAL = slice(BORDER, -BORDER)


@pytest.fixture(autouse=True)
def _home(mien_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIEN_HOME", str(mien_home))


@pytest.fixture
def photographs(portraits: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "photographs"
    for name, data in {
        "first/one.jpg": jpeg(portrait(portraits, "obama.jpg")),
        "first/two.jpg": jpeg(portrait(portraits, "obama2.jpg")),
        "second/one.jpg": jpeg(portrait(portraits, "biden.jpg")),
        "second/wall.jpg": faceless(),
        "nobody.jpg": jpeg(portrait(portraits, "biden.jpg", 320)),
        "broken.png": b"no picture",
    }.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def answer_to(*words: object) -> Any:
    told = CliRunner().invoke(app, [*map(str, words), "--json"], catch_exceptions=False)
    assert told.exit_code == 0, told.output
    # In the process of the tests, the log may go the same way.
    return json.loads(told.stdout[told.stdout.index("{\n") :])


def run(*words: object) -> dict[str, int]:
    found: dict[str, int] = answer_to("crops", *words)
    return found


def test_sub_folders_are_people_and_each_crop_holds_the_face_as_it_is_embedded(
    photographs: Path, tmp_path: Path, mien_home: Path
) -> None:
    out = tmp_path / "crops"
    assert run("--images", photographs, "--out", out) == {
        "pictures": 6, "faces": 4, "people": 2, "faceless": 1, "unusable": 1,
    }  # fmt: skip
    faces = load_faces(out, tmp_path / "cache")
    assert faces.paths == [
        "own/first/one.jpg.jpg", "own/first/two.jpg.jpg", "own/nobody.jpg.jpg",
        "own/second/one.jpg.jpg",
    ]  # fmt: skip
    assert faces.people == ["own/first", "own/first", "", "own/second"]
    assert np.abs(faces.points - MEASURING_CROP.points() - BORDER).max() < 12
    settings = Settings.model_validate({"home": mien_home})
    pipeline = load_pipeline(Zoo(mien_home), settings)
    for row, name in enumerate(("first/one.jpg", "first/two.jpg", "nobody.jpg", "second/one.jpg")):
        choice = FaceChoice(Selection.CENTRAL)
        data = (photographs / name).read_bytes()
        face = pipeline.prepare(data, choice, CropGeometry(), "picture")
        assert face.crop is not None
        assert face.face is not None
        central = faces.crops[row, CENTRAL, CENTRAL].astype(int)
        assert np.abs(central - face.crop).mean() < 2
        assert faces.eyes[row] == pytest.approx(face.face.inter_eye_distance, abs=0.06)


def test_points_lie_on_the_face_in_the_crop(photographs: Path, tmp_path: Path) -> None:
    out = tmp_path / "crops"
    run("--images", photographs, "--out", out)
    faces = load_faces(out, tmp_path / "cache")
    enlarged = tmp_path / "enlarged"
    enlarged.mkdir()
    big = cv2.resize(faces.crops[0], (512, 512), interpolation=cv2.INTER_CUBIC)
    cv2.imwrite(str(enlarged / "one.png"), big[..., ::-1])
    (found,) = answer_to("detect", enlarged / "one.png")["faces"]
    seen = np.array([[point["x"], point["y"]] for point in found["points"]]) / 4
    assert np.abs(seen - faces.points[0]).max() < 3


def test_sets_share_a_folder_and_a_set_that_is_made_again_takes_its_own_place(
    photographs: Path, tmp_path: Path
) -> None:
    out = tmp_path / "crops"
    run("--images", photographs, "--out", out, "--source", "old")
    run("--images", photographs / "first", "--out", out, "--source", "new")
    run("--images", photographs / "second", "--out", out, "--source", "old")
    faces = load_faces(out, tmp_path / "cache")
    assert sorted(faces.paths) == ["new/one.jpg.jpg", "new/two.jpg.jpg", "old/one.jpg.jpg"]


def test_an_index_names_people_and_its_labels_are_kept(photographs: Path, tmp_path: Path) -> None:
    index = tmp_path / "named.tsv"
    index.write_text(
        "path\tage\tperson\tnote\n"
        'second/one.jpg\t70\tthe "second"\tx\nnobody.jpg\t\t\t\nlost.jpg\t1\tlost\t\n'
    )
    out = tmp_path / "crops"
    found = run("--images", photographs, "--out", out, "--index", index, "--source", "own2")
    assert (found["faces"], found["people"], found["unusable"]) == (2, 1, 1)
    with (out / "index.tsv").open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert [(row["person"], row["age"], row["gender"]) for row in rows] == [
        ('own2/the "second"', "70", ""), ("", "", ""),
    ]  # fmt: skip
    assert load_faces(out, tmp_path / "cache").people == ['own2/the "second"', ""]


def test_the_largest_face_can_be_asked_for(portraits: Path, tmp_path: Path) -> None:
    folder = tmp_path / "photographs"
    folder.mkdir()
    large, small = portrait(portraits, "biden.jpg"), portrait(portraits, "obama.jpg", 240)
    (folder / "all.jpg").write_bytes(jpeg(side_by_side(large, small, small.copy(), small.copy())))
    widths = []
    for face in ("largest", "central"):
        out = tmp_path / face
        run("--images", folder, "--out", out, "--face", face)
        widths.append(float(load_faces(out, tmp_path / f"{face}-cache").eyes[0]))
    assert widths[0] > 1.5 * widths[1]


@pytest.mark.parametrize(
    ("index", "told"),
    [
        ("file\tperson\none.jpg\tone\n", "must name path and person"),
        ("path\tperson\n", "names no picture"),
        ("path\tperson\na.jpg\tone\na.jpg\ttwo\n", "twice"),
        ("path\tperson\n/first/one.jpg\tone\n", "begins in the folder"),
        ("path\tperson\nfirst/../../one.jpg\tone\n", "begins in the folder"),
        ("path\tperson\nlost.jpg\tone\n", "shows a face"),
    ],
)
def test_what_cannot_be_made_is_said_and_leaves_what_is_there(
    photographs: Path, tmp_path: Path, index: str, told: str
) -> None:
    out = tmp_path / "crops"
    run("--images", photographs, "--out", out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    file = tmp_path / "named.tsv"
    file.write_text(index)
    words = ["crops", "--images", photographs, "--out", out, "--index", file]
    failed = CliRunner().invoke(app, [str(word) for word in words])
    assert isinstance(failed.exception, DataError)
    assert told in str(failed.exception)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_an_index_of_another_kind_is_not_written_over(photographs: Path, tmp_path: Path) -> None:
    out = tmp_path / "crops"
    out.mkdir()
    (out / "index.tsv").write_text("path\tperson\na.jpg\tone\n")
    words = ["crops", "--images", str(photographs), "--out", str(out)]
    failed = CliRunner().invoke(app, words)
    assert isinstance(failed.exception, DataError)
    assert "name another folder" in str(failed.exception)
    assert [path.name for path in out.iterdir()] == ["index.tsv"]
