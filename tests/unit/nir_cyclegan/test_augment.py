import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from services.cli import augment
from services.runtime import EngineError, EngineOptions, load_engine
from services.synthesis import stated_equalisation, translate


@pytest.fixture(scope="module")
def exported(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from models.nir_cyclegan import export  # noqa: PLC0415 - needs torch

    folder = tmp_path_factory.mktemp("exported")
    made = CliRunner().invoke(export.app, ["--run", str(finished_run), "--out", str(folder)])
    assert made.exit_code == 0, made.output
    return folder


@pytest.fixture
def crops(tmp_path: Path, drawn_face: np.ndarray) -> Path:
    folder = tmp_path / "crops"
    (folder / "inner").mkdir(parents=True)
    for name, shade in (("one.png", 1.0), ("inner/one.png", 0.6), ("inner/two.png", 0.4)):
        cv2.imwrite(str(folder / name), (drawn_face * shade).astype(np.uint8)[..., ::-1])
    cv2.imwrite(str(folder / "small.png"), drawn_face[:64, :64])
    (folder / "broken.jpg").write_bytes(b"no picture")
    return folder


def run(*words: object) -> tuple[int, str]:
    told = CliRunner().invoke(augment.app, ["nir", *map(str, words)], env={"COLUMNS": "300"})
    return told.exit_code, told.output


def test_drawn_faces_are_grey_keep_their_name_and_say_that_they_are_synthetic(
    exported: Path, crops: Path, tmp_path: Path, drawn_face: np.ndarray
) -> None:
    weights, made = exported / "vis2nir.onnx", tmp_path / "made"
    code, output = run(
        "--images", crops, "--out", made, "--weights", weights, "--aligned", "--model", "vis2nir@7"
    )
    assert code == 0, output
    assert "3 synthetic faces" in output
    assert "2 pictures without" in " ".join(output.split())
    with (made / augment.INDEX).open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert [row["source"] for row in rows] == ["inner/one.png", "inner/two.png", "one.png"]
    for row in rows:
        assert (row["synthetic"], row["model"], row["version"]) == ("true", "vis2nir", "7")
        with Image.open(made / row["path"]) as picture:
            assert picture.text == {"synthetic": "true"}  # type: ignore[attr-defined]
            pixels = np.asarray(picture)
        assert pixels.shape == (112, 112, 3)
        assert (pixels == pixels[..., :1]).all()
        assert pixels.std() > 5
    # Its training equalised the input, and the command did so without being told.
    engine = load_engine(weights, "onnxruntime", EngineOptions())
    (wanted,) = translate(engine, drawn_face[None], equalise=True)
    (other,) = translate(engine, drawn_face[None], equalise=False)
    got = np.asarray(Image.open(made / "one.png.png")).astype(int)
    assert np.abs(got - wanted).max() <= 3
    assert np.abs(got - other).mean() > 3
    sheet = cv2.imread(str(made / augment.SHEET))
    assert sheet is not None
    assert sheet.shape == (116, 8 * 116, 3)


def test_nothing_is_guessed_about_the_preparation(
    exported: Path, crops: Path, tmp_path: Path
) -> None:
    lonely = tmp_path / "lonely" / "vis2nir.onnx"
    lonely.parent.mkdir()
    lonely.write_bytes((exported / "vis2nir.onnx").read_bytes())
    words = ("--images", crops, "--out", tmp_path / "made", "--weights", lonely, "--aligned")
    code, output = run(*words)
    assert code == 2
    assert "--equalise or --no-equalise" in output
    assert run(*words, "--no-equalise")[0] == 0
    assert stated_equalisation(lonely, "vis2nir") is None
    facts = json.loads((exported / "gain.json").read_text())
    assert stated_equalisation(exported / "x.onnx", "nir2vis") is False
    assert facts["networks"]["vis2nir"]["equalise_input"] is True


def test_a_folder_without_faces_and_a_model_without_a_version_are_refused(
    exported: Path, tmp_path: Path
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    words = ("--images", empty, "--out", tmp_path / "made", "--aligned", "--weights")
    code, output = run(*words, exported / "vis2nir.onnx")
    assert code == 2
    assert "no picture of a face" in output
    code, output = run(*words, exported / "vis2nir.onnx", "--model", "vis2nir")
    assert code == 2
    assert "name@version" in output


def test_a_file_that_is_no_network_is_told(crops: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.onnx"
    wrong.write_bytes(b"nothing")
    told = CliRunner().invoke(
        augment.app,
        ["nir", "--images", str(crops), "--out", str(tmp_path), "--weights", str(wrong),
         "--aligned", "--no-equalise"],
    )  # fmt: skip
    assert isinstance(told.exception, EngineError)


def test_photographs_are_cut_as_for_an_embedder(
    exported: Path, portraits: Path, tmp_path: Path
) -> None:
    made = tmp_path / "made"
    code, output = run("--images", portraits, "--out", made, "--weights", exported / "vis2nir.onnx")
    assert code == 0, output
    assert "3 synthetic faces" in output
    assert np.asarray(Image.open(made / "biden.jpg.png")).shape == (112, 112, 3)
