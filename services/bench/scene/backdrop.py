"""Drawn backgrounds, things that stand and pass in front, and what light and sensor do."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]

_OCTAVES = (4, 12, 40, 120)
_SHAPES = 8
_NIGHT_CONTRAST = 0.8


def background(rng: np.random.Generator, width: int, height: int) -> Pixels:
    """A gradient with textures of several sizes and some upright and lying rectangles.

    Returns:
        height x width x 3, BGR, 0-255.
    """
    ends = rng.uniform(40, 210, (2, 2, 3)).astype(np.float32)
    made = cv2.resize(ends, (width, height), interpolation=cv2.INTER_LINEAR)
    for octave in _OCTAVES:
        rough = rng.normal(0, 60 / np.sqrt(octave), (octave, octave, 3)).astype(np.float32)
        made += cv2.resize(rough, (width, height), interpolation=cv2.INTER_CUBIC)
    for _ in range(_SHAPES):
        x, y = int(rng.integers(width)), int(rng.integers(height))
        w, h = (int(side) for side in rng.integers(10, 160, 2))
        patch = made[y : y + h, x : x + w]
        patch *= rng.uniform(0.6, 1.3)
    drawn: Pixels = np.clip(made, 0, 255).astype(np.uint8)
    return drawn


@dataclass(frozen=True)
class Occluder:
    """Something in front of everybody: a pillar, or a thing that passes.

    Attributes:
        colour: BGR.
        width: pixels.
        x: of its left edge at ``begins``.
        speed: pixels per second; 0 for a pillar.
        begins: seconds into the scene.
    """

    colour: tuple[float, float, float]
    width: int
    x: float
    speed: float
    begins: float

    def columns(self, seconds: float, across: int) -> slice:
        """The columns of a scene ``across`` pixels wide that it covers."""
        left = round(self.x + self.speed * (seconds - self.begins))
        return slice(min(max(left, 0), across), min(max(left + self.width, 0), across))


def pillar(rng: np.random.Generator, across: int) -> Occluder:
    """Stands somewhere in the middle."""
    width = int(rng.integers(16, 40))
    return Occluder(_colour(rng), width, rng.uniform(0.2, 0.8) * across, 0.0, 0.0)


def passing(rng: np.random.Generator, across: int, seconds: float) -> Occluder:
    """Crosses the scene within two or three seconds."""
    width = int(rng.integers(30, 70))
    speed = rng.uniform(200, 320)
    begins = rng.uniform(0.2, 0.7) * seconds
    return Occluder(_colour(rng), width, -float(width), speed, begins)


def sensed(rng: np.random.Generator, picture: Pixels, gain: float, noise: Pixels) -> Pixels:
    """What a sensor makes of it.

    Args:
        rng: moves the noise.
        picture: height x width x 3, BGR, 0-255.
        gain: of the light; below 1 it is darker.
        noise: two times as high and wide, 128 is none; a part of it is added.
    """
    height, width = picture.shape[:2]
    y, x = int(rng.integers(height)), int(rng.integers(width))
    part = noise[y : y + height, x : x + width]
    dark = cv2.convertScaleAbs(picture, alpha=gain) if gain != 1 else picture
    noisy: Pixels = cv2.addWeighted(dark, 1.0, part, 1.0, -128.0)
    return noisy


def noise_sheet(rng: np.random.Generator, width: int, height: int, sigma: float) -> Pixels:
    """Noise for `sensed`, made once for a scene."""
    drawn = rng.normal(128, sigma, (2 * height, 2 * width, 3))
    return np.clip(drawn, 0, 255).astype(np.uint8)


def without_colour(picture: Pixels) -> Pixels:
    """As a camera shows it at night: grey, and of less contrast."""
    grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
    flat = cv2.convertScaleAbs(grey, alpha=_NIGHT_CONTRAST, beta=20)
    made: Pixels = cv2.cvtColor(flat, cv2.COLOR_GRAY2BGR)
    return made


def _colour(rng: np.random.Generator) -> tuple[float, float, float]:
    blue, green, red = rng.uniform(20, 160, 3)
    return (float(blue), float(green), float(red))
