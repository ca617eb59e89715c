"""ddat@1 as it is released: what the default Mien does with faces of few pixels."""

from pathlib import Path

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from models.ddat.degradations import shrink_by_area, up_sample
from models.zoo import Zoo
from services.embedding import load_embedder
from services.enhancement import load_enhancer
from services.enhancement.enhancer import Poor
from services.evaluation.alteration import shrink
from services.gateway.faces import MEASURING_CROP, FaceChoice
from services.gateway.server import load_pipeline
from services.runtime import EngineOptions
from services.settings import EngineSettings, Settings
from tests.integration.pictures import jpeg, portrait
from tests.integration.rest import files

Pixels = NDArray[np.uint8]
SIDE = 16


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


def test_its_faces_are_nearer_to_the_good_ones_than_cubic_ones_are(
    mien_home: Path, good: list[Pixels]
) -> None:
    zoo = Zoo(mien_home)
    enhancer = load_enhancer(zoo, "ddat@1", EngineSettings(preference="openvino"))
    embedder = load_embedder(zoo, "poseface@1", "openvino", EngineOptions(threads=1))
    small = [shrink_by_area(crop, SIDE) for crop in good]
    cubic = np.stack([up_sample(crop, "bicubic") for crop in small])
    drawn = np.stack(enhancer.enhance([Poor(crop, SIDE) for crop in small]))
    wanted = embedder.embed(np.stack(good))
    near = {
        name: float((embedder.embed(made) * wanted).sum(axis=1).mean())
        for name, made in (("cubic", cubic), ("drawn", drawn))
    }
    enhancer.close()
    embedder.close()
    assert near["drawn"] > near["cubic"]
    assert np.abs(drawn.astype(int) - cubic).mean() > 0.5


def test_the_default_mien_enhances_what_its_card_allows_and_nothing_else(
    rest: httpx.Client, portraits: Path, mien_home: Path
) -> None:
    gates = {one.embedder: one for one in Zoo(mien_home).enhancer("ddat").gates}
    limit = gates["poseface@1"].helps_below_eyes_px or 0.0
    large = jpeg(portrait(portraits, "obama.jpg"))
    small = shrink(jpeg(portrait(portraits, "obama2.jpg")), 28)
    answer = rest.post("/v1/verify", files=files(probe=small, reference=large)).json()
    done = answer["probe"]["enhancement"]
    # The answer rounds to a tenth of a pixel.
    if done["eyes_px"] <= limit - 0.1:
        assert done["enhancer"] == "ddat@1"
    elif done["eyes_px"] >= limit + 0.1:
        assert done["status"] == "not_needed"
    assert answer["reference"]["enhancement"]["status"] == "not_needed"
