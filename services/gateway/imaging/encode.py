"""Crops as picture files, for answers that show them."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


def png_of(pixels: NDArray[np.uint8]) -> bytes:
    """A picture as a PNG file.

    Args:
        pixels: height x width x 3, RGB, 0-255.
    """
    encoded = cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))[1]
    return encoded.tobytes()
