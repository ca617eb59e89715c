"""Alignment: the five points end up on the template, at every size and place."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from services.gateway.alignment import CropGeometry, align, recut, similarity_transform

TEMPLATE = CropGeometry().points()
Pixels = NDArray[np.uint8]
Points = NDArray[np.float64]


def picture_of(points: Points, width: int, height: int, spot: float) -> Pixels:
    """A dark picture with a soft bright spot at each point."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    light = np.zeros((height, width), np.float32)
    for px, py in points:
        light += np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * spot * spot))
    return np.repeat((np.clip(light, 0, 1) * 255).astype(np.uint8)[..., None], 3, axis=2)


def spots_in(crop: Pixels, near: Points, reach: int = 7) -> Points:
    """Centre of light around each place where a spot should be."""
    found = []
    for px, py in near.round().astype(int):
        window = crop[py - reach : py + reach + 1, px - reach : px + reach + 1, 0].astype(float)
        y, x = np.mgrid[py - reach : py + reach + 1, px - reach : px + reach + 1]
        found.append(((window * x).sum() / window.sum(), (window * y).sum() / window.sum()))
    return np.array(found)


def placed(scale: float, degrees: float, x: float, y: float) -> Points:
    """The template's points, scaled and turned about their middle, which goes to (x, y)."""
    turn = np.radians(degrees)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    points: Points = (TEMPLATE - TEMPLATE.mean(axis=0)) @ rotation.T * scale + np.array([x, y])
    return points


@pytest.mark.parametrize("degrees", [0, 20, -35, 180])
@pytest.mark.parametrize("scale", [0.5, 1, 1.9, 2.1, 3.3, 7.5])
def test_each_point_lies_on_the_template(scale: float, degrees: float) -> None:
    side = int(130 * scale) + 40
    points = placed(scale, degrees, side / 2 + 1.3, side / 2 - 2.6)
    picture = picture_of(points, side, side, spot=2 * scale)
    crop = align(picture, points.astype(np.float32), CropGeometry())
    assert crop.shape == (112, 112, 3)
    assert crop.dtype == np.uint8
    np.testing.assert_allclose(spots_in(crop, TEMPLATE), TEMPLATE, atol=0.12)


def test_left_stays_left_and_up_stays_up() -> None:
    points = placed(1, 0, 100, 100).astype(np.float32)
    picture = np.zeros((200, 200, 3), np.uint8)
    picture[:, :100, 0] = 255
    picture[:100, :, 1] = 255
    crop = align(picture, points, CropGeometry())
    assert crop[:, :50, 0].min() == 255
    assert crop[:, 62:, 0].max() == 0
    assert crop[:66, :, 1].min() == 255
    assert crop[78:, :, 1].max() == 0
    assert crop[..., 2].max() == 0, "colours keep their channels"


@pytest.mark.parametrize(
    "geometry",
    [
        CropGeometry(160, 160),
        CropGeometry(224, 224, template_scale=0.8),
        CropGeometry(112, 112, template_scale=1.2),
        CropGeometry(64, 64),
    ],
)
def test_other_crops_are_filled_in_the_same_way(geometry: CropGeometry) -> None:
    expected = geometry.points()
    centre = np.array([56.0, 56.0])
    unscaled = (TEMPLATE - centre) * geometry.template_scale + centre
    np.testing.assert_allclose(expected, unscaled * geometry.width / 112)
    points = placed(2, 10, 150, 150)
    crop = align(picture_of(points, 300, 300, 4), points.astype(np.float32), geometry)
    assert crop.shape == (geometry.height, geometry.width, 3)
    np.testing.assert_allclose(spots_in(crop, expected, 5), expected, atol=0.25)


def test_a_dlib_chip_holds_the_points_where_dlib_has_them() -> None:
    geometry = CropGeometry(150, 150, "dlib")
    # dlib's mean face of 68 points: middles of the eyes, tip of the nose, corners of the mouth.
    mean_face = [(47.5, 46.6), (100.5, 46.6), (74.0, 76.6), (50.4, 103.0), (97.6, 103.0)]
    np.testing.assert_allclose(geometry.points(), mean_face, atol=3)
    points = placed(2, 10, 150, 150)
    matrix = similarity_transform(points, geometry.points())
    crop = align(picture_of(points, 300, 300, 4), points.astype(np.float32), geometry)
    seen = points @ matrix[:, :2].T + matrix[:, 2]
    np.testing.assert_allclose(spots_in(crop, seen, 5), seen, atol=0.5)


def test_a_dlib_chip_can_be_cut_from_an_aligned_crop() -> None:
    points = placed(2, 10, 150, 150).astype(np.float32)
    picture = np.random.default_rng(3).integers(0, 256, (20, 20, 3), np.uint8)
    smooth = cv2.resize(picture, (300, 300), interpolation=cv2.INTER_CUBIC)
    geometry = CropGeometry(150, 150, "dlib")
    again = recut(align(smooth, points, CropGeometry()), geometry)
    direct = align(smooth, points, geometry)
    assert np.abs(again[:130].astype(int) - direct[:130]).mean() < 4
    assert again[137:].max() == 0, "the crop of 112 pixels does not reach so far down"


def test_a_template_scale_enlarges_the_face() -> None:
    eyes = [CropGeometry(template_scale=s).points()[1, 0] for s in (0.9, 1.0, 1.1)]
    assert eyes == sorted(eyes)


def test_a_face_beyond_the_edge_is_black_there() -> None:
    picture = np.full((200, 200, 3), 200, np.uint8)
    crop = align(picture, placed(1, 0, 10, 100).astype(np.float32), CropGeometry())
    assert crop[:, :20].max() == 0
    assert crop[:, 80:].min() == 200
    large = np.full((2000, 2000, 3), 200, np.uint8)
    crop = align(large, placed(9, 0, 90, 1000).astype(np.float32), CropGeometry())
    assert crop[:, :20].max() == 0
    assert crop[:, 80:].min() == 200


def test_a_face_wholly_outside_does_not_fail() -> None:
    picture = np.full((50, 50, 3), 200, np.uint8)
    for scale in (1, 8):
        crop = align(picture, placed(scale, 0, -9000, 9000).astype(np.float32), CropGeometry())
        assert crop.shape == (112, 112, 3)


def test_a_large_face_is_averaged_and_not_sampled() -> None:
    noise = np.random.default_rng(0).integers(0, 2, (900, 900, 1), np.uint8) * 255
    picture = np.repeat(noise, 3, axis=2)
    crop = align(picture, placed(6, 0, 450, 450).astype(np.float32), CropGeometry())
    # Each pixel of the crop stands for 36 of the picture, of which single ones would stay rough.
    assert crop[10:-10, 10:-10].std() < 30


def test_a_face_far_along_a_long_picture() -> None:
    strip = np.random.default_rng(0).integers(0, 256, (130, 40_000, 3), np.uint8)
    points = placed(1, 5, 39_000, 65)
    crop = align(strip, points.astype(np.float32), CropGeometry())
    alone = align(
        strip[:, 38_900:39_100], (points - (38_900, 0)).astype(np.float32), CropGeometry()
    )
    assert np.abs(crop.astype(int) - alone).mean() < 3


@given(
    scale=st.floats(0.05, 50),
    degrees=st.floats(-180, 180),
    x=st.floats(-1e4, 1e4),
    y=st.floats(-1e4, 1e4),
)
def test_the_transform_undoes_any_similarity(
    scale: float, degrees: float, x: float, y: float
) -> None:
    points = placed(scale, degrees, x, y)
    matrix = similarity_transform(points, TEMPLATE)
    np.testing.assert_allclose(points @ matrix[:, :2].T + matrix[:, 2], TEMPLATE, atol=1e-6)
    assert np.linalg.det(matrix[:, :2]) > 0, "never a mirror image"


def test_the_transform_is_the_best_similarity() -> None:
    rng = np.random.default_rng(5)
    source = rng.uniform(0, 200, (5, 2))
    target = TEMPLATE + rng.normal(0, 3, (5, 2))
    best = similarity_transform(source, target)

    def error(matrix: NDArray[np.float64]) -> float:
        return float(((source @ matrix[:, :2].T + matrix[:, 2] - target) ** 2).sum())

    for _ in range(200):
        a, b, x, y = rng.normal(0, 0.02, 4)
        other = best + np.array([[a, -b, 5 * x], [b, a, 5 * y]])
        assert error(other) >= error(best)
    theirs, _ = cv2.estimateAffinePartial2D(source, target, method=cv2.LMEDS)
    assert error(best) <= error(theirs) + 1e-6


def test_a_mirrored_face_is_not_mirrored_back() -> None:
    mirrored = TEMPLATE * (-1, 1) + (112, 0)
    matrix = similarity_transform(mirrored, TEMPLATE)
    assert np.linalg.det(matrix[:, :2]) > 0


def test_points_that_coincide_are_refused() -> None:
    with pytest.raises(ValueError, match="coincide"):
        similarity_transform(np.full((5, 2), 7.0), TEMPLATE)
