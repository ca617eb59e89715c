"""Pictures to read, and what is wrong with an answer."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from services.gateway.imaging import ImageError, ImageLimits, Picture, decode
from tests.hostile import (
    HEIGHT,
    WIDTH,
)

LIMITS = ImageLimits()


def smooth(width: int = WIDTH, height: int = HEIGHT) -> Image.Image:
    """A picture without noise and with gentle slopes, which lossy coders keep well."""
    rows, columns = np.mgrid[0:height, 0:width]
    channels = [60 + columns * 2, 60 + rows * 3, 200 - rows - columns]
    return Image.fromarray(np.stack(channels, axis=-1).astype(np.uint8))


def worst(picture: Picture, expected: Image.Image | NDArray[np.uint8]) -> int:
    """The largest difference of any channel of any pixel."""
    wanted = np.asarray(expected).astype(int)
    assert picture.pixels.shape == wanted.shape
    return int(np.abs(picture.pixels.astype(int) - wanted).max())


def refusal(data: bytes, limits: ImageLimits = LIMITS) -> ImageError:
    with pytest.raises(ImageError) as caught:
        decode(data, limits)
    return caught.value
