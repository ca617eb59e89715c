"""Tells a face in colour from one without: near-infrared light, or a grey picture."""

from __future__ import annotations

from enum import StrEnum

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]

FACE = (slice(28, 104), slice(22, 90))
"""Rows and columns of the 112 x 112 crop that show the face rather than hair and background."""

_FLAT_CHROMA = 2.5  # standard deviation of Cb and Cr, tint apart, below which there is no colour


class Modality(StrEnum):
    """What kind of light a picture was taken in."""

    VISIBLE = "visible"
    NEAR_INFRARED_OR_GREY = "near_infrared_or_grey"


def measure_modality(crop: Pixels) -> Modality:
    """Tells a colour picture from one without colour.

    A tinted grey picture (sepia; the violet of a camera without an infrared filter) has no colour
    either. Its chroma follows its luminance, so what counts is the spread of the chroma that a
    straight line through luminance does not explain.

    Args:
        crop: aligned 112 x 112 x 3, RGB, 0-255.
    """
    values = (
        cv2.cvtColor(crop[FACE][::2, ::2], cv2.COLOR_RGB2YCrCb).reshape(-1, 3).astype(np.float64)
    )
    values -= values.mean(axis=0)
    light, chroma = values[:, 0], values[:, 1:]
    slope = light @ chroma / max(float(light @ light), 1e-9)
    spread = (chroma - light[:, None] * slope).std(axis=0)
    flat = float(spread.max()) < _FLAT_CHROMA
    return Modality.NEAR_INFRARED_OR_GREY if flat else Modality.VISIBLE
