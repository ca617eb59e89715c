"""nir2vis@1 and vis2nir@1 as they are released: what Mien does with faces without colours."""

import csv
from pathlib import Path

import cv2
import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

from models.nir_cyclegan.simulated import formula
from models.zoo import Zoo
from services.cli import augment
from services.embedding import load_embedder
from services.enhancement import load_enhancer
from services.enhancement.enhancer import Poor
from services.evaluation.alteration import Light, relight
from services.gateway.faces import MEASURING_CROP, FaceChoice
from services.gateway.server import load_pipeline
from services.runtime import EngineOptions
from services.settings import EngineSettings, Settings
from tests.integration.pictures import jpeg, portrait
from tests.integration.rest import files

Pixels = NDArray[np.uint8]


@pytest.fixture(scope="module")
def good(mien_home: Path, portraits: Path) -> list[Pixels]:
    """The photographs' faces."""
    pipeline = load_pipeline(Zoo(mien_home), Settings(home=mien_home))
    crops = []
    for name in ("obama", "obama2", "biden"):
        data = (portraits / f"{name}.jpg").read_bytes()
        crop = pipeline.prepare(data, FaceChoice(), MEASURING_CROP, name).crop
        assert crop is not None
        crops.append(crop)
    return crops


def test_its_faces_are_nearer_to_the_visible_ones_than_near_infrared_is(
    mien_home: Path, good: list[Pixels]
) -> None:
    zoo = Zoo(mien_home)
    enhancer = load_enhancer(zoo, "nir2vis@1", EngineSettings(preference="openvino"))
    embedder = load_embedder(zoo, "poseface@1", "openvino", EngineOptions(threads=1))
    night = np.stack([formula(crop, np.random.default_rng(1)) for crop in good])
    drawn = np.stack(enhancer.enhance([Poor(crop, len(crop)) for crop in night]))
    wanted = embedder.embed(np.stack(good))
    near = {
        name: float((embedder.embed(made) * wanted).sum(axis=1).mean())
        for name, made in (("night", night), ("drawn", drawn))
    }
    enhancer.close()
    embedder.close()
    assert near["drawn"] > near["night"]
    assert np.ptp(drawn.astype(int), axis=3).mean() > 2  # it has colours


def test_the_default_mien_redraws_a_near_infrared_face_and_no_other(
    rest: httpx.Client, portraits: Path
) -> None:
    colours = jpeg(portrait(portraits, "obama.jpg"))
    night = relight(jpeg(portrait(portraits, "obama2.jpg")), Light.NEAR_INFRARED)
    answer = rest.post("/v1/verify", files=files(probe=night, reference=colours)).json()
    done = answer["probe"]["enhancement"]
    assert (done["status"], done["enhancer"]) == ("applied", "nir2vis@1")
    assert done["condition"] == "near_infrared"
    assert answer["reference"]["enhancement"]["status"] == "not_needed"
    plain = rest.post(
        "/v1/verify", files=files(probe=night, reference=colours), data={"enhance": "false"}
    ).json()
    assert plain["probe"]["enhancement"]["status"] == "off"
    assert answer["similarity"] != plain["similarity"]


def test_a_training_set_grows_by_near_infrared_faces_that_say_what_they_are(
    mien_home: Path, portraits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIEN_HOME", str(mien_home))
    made = tmp_path / "made"
    words = ["nir", "--images", str(portraits), "--out", str(made)]
    told = CliRunner().invoke(augment.app, words, env={"COLUMNS": "300"})
    assert told.exit_code == 0, told.output
    with (made / augment.INDEX).open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert {(row["synthetic"], row["model"], row["version"]) for row in rows} == {
        ("true", "vis2nir", "1")
    }
    for row in rows:
        picture = cv2.imread(str(made / row["path"]))
        assert picture is not None
        assert np.ptp(picture.astype(int), axis=2).max() == 0
        assert picture.std() > 15
    wrong = CliRunner().invoke(augment.app, [*words, "--model", "nir2vis@1"])
    assert wrong.exit_code == 2
    assert "does not draw near infrared" in wrong.output
