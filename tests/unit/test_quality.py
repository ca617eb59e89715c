"""Quality: each flaw lowers the component that is named for it, and the score as a whole."""

from collections.abc import Callable

import cv2
import numpy as np
import pytest
import simplejpeg
from numpy.typing import NDArray

from services.gateway.pose import Pose
from services.gateway.quality import (
    Quality,
    measure_quality,
)
from services.modality import Modality, measure_modality

Pixels = NDArray[np.uint8]
FRONTAL = Pose(0.0, 0.0, 0.0)


def face() -> Pixels:
    """A drawing with the shapes, shades and fine texture of a face on a 112 x 112 crop."""
    skin = np.full((112, 112, 3), (196, 148, 122), np.float32)
    y, x = np.mgrid[:112, :112].astype(np.float32)
    roundness = 1 - ((x - 56) ** 2 + (y - 62) ** 2) / 9000
    skin *= roundness[..., None]
    for eye_x in (38, 74):
        cv2.ellipse(skin, (eye_x, 52), (9, 5), 0, 0, 360, (235, 232, 228), -1, cv2.LINE_AA)
        cv2.circle(skin, (eye_x, 52), 4, (52, 40, 34), -1, cv2.LINE_AA)
        cv2.ellipse(skin, (eye_x, 42), (11, 2), 0, 180, 360, (70, 50, 40), 3, cv2.LINE_AA)
    cv2.line(skin, (56, 55), (52, 72), (150, 105, 85), 2, cv2.LINE_AA)
    cv2.line(skin, (52, 73), (60, 73), (130, 85, 70), 2, cv2.LINE_AA)
    cv2.ellipse(skin, (56, 92), (15, 5), 0, 0, 360, (168, 70, 74), -1, cv2.LINE_AA)
    cv2.line(skin, (41, 92), (71, 92), (90, 40, 44), 1, cv2.LINE_AA)
    texture = np.random.default_rng(0).normal(0, 7, (112, 112, 1)).astype(np.float32)
    return clipped(skin + texture)


def clipped(values: NDArray[np.floating]) -> Pixels:
    pixels: Pixels = np.clip(values, 0, 255).astype(np.uint8)
    return pixels


def scaled(picture: Pixels, *factors: float) -> Pixels:
    return clipped(picture.astype(np.float32) * np.array(factors))


def blurred(picture: Pixels, sigma: float) -> Pixels:
    smooth: Pixels = cv2.GaussianBlur(picture, (0, 0), sigma)
    return smooth


def upscaled(picture: Pixels, times: int) -> Pixels:
    small = cv2.resize(picture, None, fx=1 / times, fy=1 / times, interpolation=cv2.INTER_AREA)
    large: Pixels = cv2.resize(small, (112, 112), interpolation=cv2.INTER_CUBIC)
    return large


def lit_from_the_side(picture: Pixels) -> Pixels:
    shade = np.linspace(0.15, 1.2, 112, dtype=np.float32)[None, :, None]
    return clipped(picture * shade)


def grey(picture: Pixels) -> Pixels:
    return np.repeat(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)


def measured(
    crop: Pixels | None = None,
    pose: Pose = FRONTAL,
    distance: float = 90.0,
    score: float = 0.93,
) -> Quality:
    return measure_quality(face() if crop is None else crop, pose, distance, score)


def test_a_good_face_is_good() -> None:
    quality = measured()
    assert quality.unified > 70
    assert all(0 <= value <= 100 for value in quality.components.values())


Flaw = Callable[[], Quality]
FLAWS: dict[str, tuple[str, Flaw]] = {
    "blur": ("sharpness", lambda: measured(blurred(face(), 2))),
    "upscaling": ("sharpness", lambda: measured(upscaled(face(), 5))),
    "darkness": ("under_exposure_prevention", lambda: measured(scaled(face(), 0.12))),
    "glare": ("over_exposure_prevention", lambda: measured(scaled(face(), 2.2))),
    "flat light": ("dynamic_range", lambda: measured(scaled(face() // 8 + 110, 1))),
    "side light": ("illumination_uniformity", lambda: measured(lit_from_the_side(face()))),
    "small size": ("inter_eye_distance", lambda: measured(distance=15)),
    "yaw to the left": ("head_pose_yaw", lambda: measured(pose=Pose(50, 0, 0))),
    "yaw to the right": ("head_pose_yaw", lambda: measured(pose=Pose(-50, 0, 0))),
    "looking down": ("head_pose_pitch", lambda: measured(pose=Pose(0, 40, 0))),
    "looking up": ("head_pose_pitch", lambda: measured(pose=Pose(0, -40, 0))),
    "an unsure detector": ("detector_confidence", lambda: measured(score=0.45)),
}


@pytest.mark.parametrize("flaw", [*FLAWS])
def test_a_flaw_lowers_its_component_and_the_score(flaw: str) -> None:
    component, flawed = FLAWS[flaw]
    good, bad = measured(), flawed()
    assert bad.components[component] < good.components[component] - 20
    assert bad.unified < good.unified - 2


@pytest.mark.parametrize("flaw", ["small size", "yaw to the left", "looking up"])
def test_what_is_not_in_the_pixels_touches_no_other_component(flaw: str) -> None:
    component, flawed = FLAWS[flaw]
    good, bad = measured().components, flawed().components
    assert {name for name in good if good[name] != bad[name]} == {component}


@pytest.mark.parametrize(
    ("worse", "values"),
    [
        (lambda v: measured(blurred(face(), v)), [0.5, 1, 1.5, 2, 4]),
        (lambda v: measured(upscaled(face(), v)), [2, 3, 5, 8]),
        (lambda v: measured(distance=v), [80, 50, 30, 15, 6]),
        (lambda v: measured(pose=Pose(v, 0, 0)), [0, 15, 35, 60, 85]),
        (lambda v: measured(pose=Pose(0, v, 0)), [0, -15, -35, -60, -85]),
        (lambda v: measured(score=v), [0.9, 0.7, 0.5, 0.35]),
    ],
    ids=["blur", "upscaling", "size", "yaw", "pitch", "detector"],
)
def test_the_more_of_a_flaw_the_lower_the_score(
    worse: Callable[[float], Quality], values: list[float]
) -> None:
    scores = [worse(value).unified for value in values]
    assert scores == sorted(scores, reverse=True)
    assert len(set(scores)) == len(scores)


def test_moderate_light_is_not_taken_for_blur() -> None:
    soft = blurred(face(), 2)
    bright = measured(soft).components["sharpness"]
    dim = measured(scaled(soft, 0.5)).components["sharpness"]
    assert 20 < bright < 80, "where the scale is steep"
    assert dim == pytest.approx(bright, abs=10)


def test_one_bad_component_shows_in_the_score() -> None:
    assert measured(blurred(face(), 6)).unified < 70
    assert measured(pose=Pose(89, 0, 0)).unified < 55
    assert measured(distance=5).unified < 70


@pytest.mark.parametrize("yaw", [90.0, 120.0, -180.0])
def test_a_face_turned_away_counts_nothing(yaw: float) -> None:
    assert measured(pose=Pose(yaw, 0, 0)).components["head_pose_yaw"] == pytest.approx(0, abs=1e-6)


def test_roll_is_told_but_does_not_count_because_alignment_undoes_it() -> None:
    leaning = measured(pose=Pose(0, 0, 60))
    assert leaning.components["head_pose_roll"] == pytest.approx(25)
    assert leaning.unified == measured().unified


@pytest.mark.parametrize("value", [0, 128, 255])
def test_a_picture_of_one_shade_is_poor_and_finite(value: int) -> None:
    quality = measured(np.full((112, 112, 3), value, np.uint8))
    assert np.isfinite(quality.unified)
    assert quality.unified < 40
    assert all(0 <= component <= 100 for component in quality.components.values())


# --- modality --------------------------------------------------------------------------------


def compressed(picture: Pixels) -> Pixels:
    data = simplejpeg.encode_jpeg(picture, quality=85)
    decoded: Pixels = simplejpeg.decode_jpeg(data)
    return decoded


COLOURED: dict[str, Pixels] = {
    "as it is": face(),
    "dark": scaled(face(), 0.5),
    "warm light": scaled(face(), 1.1, 0.95, 0.75),
    "cold light": scaled(face(), 0.8, 0.95, 1.15),
    "blurred": blurred(face(), 2),
    "compressed": compressed(face()),
    "turned": np.ascontiguousarray(face()[:, ::-1]),
}
COLOURLESS: dict[str, Pixels] = {
    "grey": grey(face()),
    "grey, dark": scaled(grey(face()), 0.4),
    "grey, compressed": compressed(grey(face())),
    "shifted to green": np.clip(grey(face()).astype(int) // 2 + (0, 40, 0), 0, 255).astype(
        np.uint8
    ),
    "sepia": scaled(grey(face()), 1.0, 0.85, 0.7),
    "violet, as from a camera without an infrared filter": scaled(grey(face()), 0.9, 0.7, 1.0),
    "sepia, compressed": compressed(scaled(grey(face()), 1.0, 0.85, 0.7)),
    "one shade": np.full((112, 112, 3), 90, np.uint8),
}


@pytest.mark.parametrize("kind", [*COLOURED])
def test_a_picture_with_colours_is_visible_light(kind: str) -> None:
    assert measure_modality(COLOURED[kind]) is Modality.VISIBLE


@pytest.mark.parametrize("kind", [*COLOURLESS])
def test_a_picture_without_colours_may_be_infrared(kind: str) -> None:
    assert measure_modality(COLOURLESS[kind]) is Modality.NEAR_INFRARED_OR_GREY
