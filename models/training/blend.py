"""Faces that nobody has: two people's aligned faces made one.

What a network says of such a face is as true as what it says of a photograph, so two networks'
answers to it are one more example of what one vector means in the other's space, of a person who is
in no data set.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

LEAST_SHARE, LARGEST_SHARE = 0.25, 0.5
"""Of the second face where both shine through."""

SEAM_SHIFT = 10.0
"""Spread of a seam's distance from the middle of the face, px of a 128 x 128 crop."""

SOFTEST, SHARPEST = 10.0, 2.0
"""Widths of a seam, px."""

MIDDLE = (63.5, 67.5)
"""Between eyes and mouth, x and y in a 128 x 128 crop."""


def blend(first: Bytes, second: Bytes, rng: np.random.Generator) -> Bytes:
    """One face of two: both shine through everywhere, or they meet at a soft seam.

    Args:
        first: (128,128,3) uint8, aligned.
        second: likewise, of somebody else.
        rng: source of chance.
    """
    height, width = first.shape[:2]
    share = _even(height, width, rng) if rng.random() < 0.5 else _seam(height, width, rng)
    mixed = first + (second.astype(np.float32) - first) * share[..., None]
    return np.clip(np.rint(mixed), 0, 255).astype(np.uint8)


def _even(height: int, width: int, rng: np.random.Generator) -> Floats:
    share = rng.uniform(LEAST_SHARE, LARGEST_SHARE)
    return np.full((height, width), share, dtype=np.float32)


def _seam(height: int, width: int, rng: np.random.Generator) -> Floats:
    """Share of the second face: from 0 on one side of a line to 1 on the other."""
    angle, shift = rng.uniform(0, 2 * np.pi), rng.normal(0, SEAM_SHIFT)
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    across = (columns - MIDDLE[0]) * np.cos(angle) + (rows - MIDDLE[1]) * np.sin(angle)
    share = 1 / (1 + np.exp((across + shift) / rng.uniform(SHARPEST, SOFTEST)))
    return np.asarray(share, dtype=np.float32)
