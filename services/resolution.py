"""How many pixels a face really has, whatever its picture was enlarged to.

An enlarged picture has no detail finer than the pixels that it was made from. So the spectrum of
the crop's brightness is compared with that of usual faces: where it falls away from theirs, the
picture ends.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]

_SIDE = 112
# Waves across the crop, and the strength of usual faces there, in units of that at two to four
# waves: medians over 400 aligned photographs of the training data, drawn at random.
_WAVES = (4, 5, 6, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 50)
_USUAL = (
    0.70, 0.401, 0.320, 0.238, 0.173, 0.136, 0.0986, 0.0787, 0.0491, 0.0349, 0.0258, 0.0200,
    0.0137, 0.0105,
)  # fmt: skip
# At half as many waves as there were pixels, a cubically or linearly enlarged face has about this
# share of the usual strength left. Of usual faces, 19 in 20 have more than half of it everywhere.
_SHARE = 0.45
_LEAST, _MOST = _WAVES[0], _WAVES[-1]


def _rings() -> NDArray[np.intp]:
    """Waves across the crop of each number that `np.fft.rfft2` gives, the larger of both axes."""
    rows = np.abs(np.fft.fftfreq(_SIDE, 1 / _SIDE))
    columns = np.fft.rfftfreq(_SIDE, 1 / _SIDE)
    waves: NDArray[np.intp] = np.maximum(rows[:, None], columns[None, :]).round().astype(np.intp)
    return waves.ravel()


_RINGS = _rings()
_COUNTS = np.bincount(_RINGS)
_WINDOW = np.outer(np.hanning(_SIDE), np.hanning(_SIDE)).astype(np.float32)
_EXPECTED = np.exp(np.interp(np.arange(_LEAST, _MOST + 1), _WAVES, np.log(_USUAL)))


def measure_side(crop: Pixels) -> float:
    """Side in pixels of the smallest crop that would show as much; at most the crop's own.

    It is rough, a quarter up or down: enough to tell a face of 16 pixels from one of 64, not to
    tell 28 from 32. A crop that is not of 112 pixels is taken to be as it was cut.

    Args:
        crop: aligned side x side x 3, RGB, 0-255.
    """
    if len(crop) != _SIDE:
        return float(len(crop))
    grey = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY).astype(np.float32)
    waves = np.fft.rfft2((grey - grey.mean()) * _WINDOW)
    power = waves.real**2 + waves.imag**2
    strength = np.sqrt(np.bincount(_RINGS, power.ravel()) / _COUNTS)
    reference = float(strength[2:5].mean())
    if reference <= 0:
        return float(_SIDE)  # a flat picture says nothing
    share = strength[_LEAST : _MOST + 1] / reference / _EXPECTED
    # Over three neighbours, so that one weak ring does not end the picture.
    smooth = np.convolve(share, np.ones(3) / 3, mode="same")[1:-1]
    short = np.flatnonzero(smooth < _SHARE)
    return float(2 * (_LEAST + 1 + short[0])) if len(short) else float(_SIDE)
