"""What the card says is done to a crop."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from models.zoo import CropInput
from services.embedding.embedder import prepare_crops
from tests.tiny_networks import SIDE
from tests.unit.embedder.samples import Crops, crops


def colours(red: int, green: int, blue: int) -> Crops:
    return np.tile(np.array([red, green, blue], np.uint8), (1, SIDE, SIDE, 1))


@pytest.mark.parametrize(
    ("spec", "channels"),
    [
        ({}, (10, 100, 200)),
        ({"channel_order": "BGR"}, (200, 100, 10)),
        ({"pixel_range": 1}, (10 / 255, 100 / 255, 200 / 255)),
        ({"mean": 127.5, "std": 128}, (-117.5 / 128, -27.5 / 128, 72.5 / 128)),
        ({"mean": [10, 20, 30]}, (0, 80, 170)),
        ({"std": [2, 4, 8]}, (5, 25, 25)),
        # Mean and std belong to the channels in the order that the network takes.
        ({"mean": [10, 20, 30], "channel_order": "BGR"}, (190, 80, -20)),
        (
            {"pixel_range": 1, "mean": 0.5, "std": 0.5, "channel_order": "BGR"},
            (200 / 127.5 - 1, 100 / 127.5 - 1, 10 / 127.5 - 1),
        ),
    ],
)
def test_a_colour_becomes_what_the_card_says(
    spec: dict[str, Any], channels: tuple[float, float, float]
) -> None:
    batch = prepare_crops(colours(10, 100, 200), CropInput.model_validate(spec))
    assert batch.dtype == np.float32
    assert batch.shape == (1, 3, SIDE, SIDE)
    assert batch.flags["C_CONTIGUOUS"]
    for channel, value in enumerate(channels):
        np.testing.assert_allclose(batch[0, channel], value, atol=1e-5)


def test_rows_stay_rows_and_columns_columns() -> None:
    crop = np.zeros((1, SIDE, SIDE, 3), np.uint8)
    crop[0, 3, 7] = (1, 2, 3)
    batch = prepare_crops(crop, CropInput())
    assert batch[0, :, 3, 7].tolist() == [1, 2, 3]
    assert batch.sum() == 6


@pytest.mark.parametrize("order", ["RGB", "BGR"])
def test_whitening_uses_each_crops_own_mean_and_deviation(order: str) -> None:
    spec = CropInput.model_validate({"per_image_whitening": True, "channel_order": order})
    two = np.concatenate([crops(1, seed=1), crops(1, seed=2) // 4])
    batch = prepare_crops(two, spec)
    for crop, made in zip(two, batch, strict=True):
        values = crop.astype(np.float64)
        white = (values - values.mean()) / values.std()
        ordered = white if order == "RGB" else white[..., ::-1]
        np.testing.assert_allclose(made, ordered.transpose(2, 0, 1), atol=1e-4)


def test_whitening_a_crop_of_one_colour_stays_finite() -> None:
    spec = CropInput.model_validate({"per_image_whitening": True})
    assert prepare_crops(colours(7, 7, 7), spec).tolist() == np.zeros((1, 3, SIDE, SIDE)).tolist()


@pytest.mark.parametrize("spec", [{}, {"mean": 5, "std": 2, "pixel_range": 1}])
def test_the_crops_themselves_are_left_as_they_are(spec: dict[str, Any]) -> None:
    given = crops(2)
    before = given.copy()
    prepare_crops(given, CropInput.model_validate(spec))
    assert np.array_equal(given, before)
