"""A picture that was enlarged has no more pixels than before; one of few pixels shows a face."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from models.zoo import Zoo
from services.gateway.alignment import CropGeometry
from services.gateway.faces import Face, FaceChoice
from services.gateway.pipeline import PicturePipeline
from services.gateway.server import load_pipeline
from services.resolution import measure_side
from tests.integration.harness import settings_on_free_ports
from tests.integration.pictures import jpeg, portrait

SHRUNK = 48


@pytest.fixture(scope="module")
def pipeline(mien_home: Path) -> PicturePipeline:
    return load_pipeline(Zoo(mien_home), settings_on_free_ports(mien_home))


def face(pipeline: PicturePipeline, picture: Image.Image) -> Face:
    found = pipeline.prepare(jpeg(picture), FaceChoice(), CropGeometry(), "picture").face
    assert found is not None
    return found


@pytest.mark.parametrize("name", ["obama.jpg", "obama2.jpg", "biden.jpg"])
def test_an_enlarged_face_counts_as_what_it_was_made_from(
    name: str, pipeline: PicturePipeline, portraits: Path
) -> None:
    good = portrait(portraits, name)
    small = good.resize((SHRUNK, SHRUNK), Image.Resampling.BOX)
    usual = face(pipeline, good)
    truth = usual.native_side * SHRUNK / good.width
    assert usual.native_side > 64
    for kernel in (Image.Resampling.BICUBIC, Image.Resampling.BILINEAR, Image.Resampling.LANCZOS):
        enlarged = face(pipeline, small.resize(good.size, kernel))
        assert enlarged.inter_eye_distance > 40
        assert 0.5 * truth < enlarged.native_side < 1.5 * truth


@pytest.mark.parametrize("name", ["obama.jpg", "obama2.jpg", "biden.jpg"])
@pytest.mark.parametrize("side", [16, 24])
def test_a_face_of_few_pixels_is_found(
    name: str, side: int, pipeline: PicturePipeline, portraits: Path
) -> None:
    good = portrait(portraits, name)
    small = face(pipeline, good.resize((side, side), Image.Resampling.BOX))
    usual = face(pipeline, good)
    truth = usual.native_side * side / good.width
    assert 0.6 * truth < small.native_side < 1.5 * truth
    scale = good.width / side
    found, there = small.detection.box, usual.detection.box
    assert found[0] * scale == pytest.approx(there[0], abs=0.2 * there[2])
    assert found[1] * scale == pytest.approx(there[1], abs=0.2 * there[3])


def test_a_flat_or_a_small_crop_is_what_it_is() -> None:
    assert measure_side(np.full((112, 112, 3), 90, np.uint8)) == 112
    assert measure_side(np.zeros((40, 40, 3), np.uint8)) == 40


def test_noise_has_every_detail() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (112, 112, 3), np.uint8)
    assert measure_side(noise) == 112
    smooth = cv2.resize(noise[:16, :16], (112, 112), interpolation=cv2.INTER_CUBIC)
    assert 10 <= measure_side(np.asarray(smooth)) <= 24
