"""Simulated faults of probes."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from services.evaluation.alteration import (
    Alteration,
    Light,
    relight,
    shrink,
    split_name,
    with_altered_probes,
)
from services.evaluation.pairs import Pair


def png(height: int, width: int) -> bytes:
    return bytes(cv2.imencode(".png", np.full((height, width, 3), 90, np.uint8))[1])


@pytest.mark.parametrize(
    ("height", "width", "size"), [(200, 100, (64, 32)), (90, 300, (19, 64)), (400, 1, (64, 1))]
)
def test_the_longer_side_gets_the_length_asked_for(
    height: int, width: int, size: tuple[int, int]
) -> None:
    data = shrink(png(height, width), 64)
    small = np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR))
    assert small.shape[:2] == size
    assert np.unique(small).tolist() == [90]


@pytest.mark.parametrize("data", [b"", b"no picture", png(64, 20)])
def test_what_cannot_or_need_not_be_shrunk_stays(data: bytes) -> None:
    assert shrink(data, 64) == data


@pytest.mark.parametrize(
    "alteration",
    [Alteration(48), Alteration(light=Light.GREY), Alteration(48, Light.NEAR_INFRARED)],
)
def test_only_first_pictures_are_altered_under_a_name_of_their_own(alteration: Alteration) -> None:
    pair = Pair("1", "ann/1.jpg", "ann/2.jpg", same=True)
    (changed,) = with_altered_probes([pair], alteration)
    assert changed.path1 != pair.path1
    assert split_name(changed.path1) == ("ann/1.jpg", alteration)
    assert (changed.path2, changed.same) == ("ann/2.jpg", True)
    assert split_name(changed.path2) == ("ann/2.jpg", Alteration())
    assert with_altered_probes([pair], Alteration()) == [pair]


def colours(height: int, width: int) -> bytes:
    chance = np.random.default_rng(3)
    field = cv2.resize(chance.integers(0, 255, (8, 8, 3), np.uint8), (width, height))
    return bytes(cv2.imencode(".png", field)[1])


def shown(data: bytes) -> np.ndarray:
    return np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR))


@pytest.mark.parametrize("light", [Light.GREY, Light.NEAR_INFRARED, Light.FLAT_NEAR_INFRARED])
def test_a_picture_loses_its_colours_the_same_way_each_time(light: Light) -> None:
    data = colours(100, 150)
    first, second = shown(relight(data, light)), relight(data, light)
    assert first.shape == (100, 150, 3)
    assert np.ptp(first.astype(int), axis=2).max() == 0
    assert np.array_equal(first, shown(second))
    assert relight(b"no picture", light) == b"no picture"


def test_near_infrared_sees_red_as_brighter_than_blue() -> None:
    stripes = np.zeros((120, 120, 3), np.uint8)
    red = np.arange(120) // 10 % 2 == 0
    stripes[:, red], stripes[:, ~red] = (0, 0, 200), (200, 0, 0)  # BGR
    turned = shown(relight(bytes(cv2.imencode(".png", stripes)[1]), Light.NEAR_INFRARED))
    assert turned[:, red].mean() > turned[:, ~red].mean() + 40


def test_flat_light_leaves_less_of_the_shading() -> None:
    shade = np.tile(np.linspace(60, 200, 240).astype(np.uint8)[None, :, None], (240, 1, 3))
    data = bytes(cv2.imencode(".png", shade)[1])
    slopes = [
        np.polyfit(np.arange(240), shown(relight(data, light)).mean(axis=(0, 2)), 1)[0]
        for light in (Light.NEAR_INFRARED, Light.FLAT_NEAR_INFRARED)
    ]
    assert slopes[0] > 2 * abs(slopes[1])


def test_light_is_turned_before_the_picture_is_scaled() -> None:
    data = colours(100, 150)
    both = Alteration(60, Light.GREY).apply(data)
    assert np.array_equal(shown(both), shown(shrink(relight(data, Light.GREY), 60)))
