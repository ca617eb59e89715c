"""Inputs to compare engines on: made here from a seed, the same everywhere and every time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from services.runtime.engine import Arrays, TensorInfo

Picture = NDArray[np.float32]
"""Channels x height x width, 0 to 255."""

INPUTS_VERSION = 1
"""To be raised when other inputs are made, so that earlier verdicts no longer count."""

_SEED = 20_240_131
_BATCH = 7  # odd, so that it is none of the sizes that engines are tuned for
_FREE_SIDES = (160, 192)  # height and width where the network leaves them free; multiples of 32
_IMAGE_DIMENSIONS = 4


def generated_inputs(
    inputs: Sequence[TensorInfo], value_range: tuple[float, float] = (0.0, 255.0)
) -> list[Arrays]:
    """Inputs for a network: batches of pictures where it takes pictures, else random unit vectors.

    Args:
        inputs: the network's inputs; -1 is free, the first dimension is the batch.
        value_range: what black and white are for the network.

    Returns:
        Two batches, of one item and of several, if the batch is free; else as many as the kinds of
        pictures need. Each batch holds all inputs.
    """
    rng = np.random.default_rng(_SEED)
    batch = inputs[0].shape[0]
    sizes = [1, _BATCH] if batch < 0 else [batch] * -(-len(_KINDS) // batch)
    batches = []
    turn = 0
    for size in sizes:
        batches.append({info.name: _array(rng, info, size, turn, value_range) for info in inputs})
        turn += size
    return batches


def _array(
    rng: np.random.Generator,
    info: TensorInfo,
    size: int,
    turn: int,
    value_range: tuple[float, float],
) -> NDArray[np.float32]:
    if len(info.shape) == _IMAGE_DIMENSIONS:
        _, channels, *sides = info.shape
        height, width = (
            side if side > 0 else free for side, free in zip(sides, _FREE_SIDES, strict=True)
        )
        shape = (max(channels, 1), height, width)
        pictures = [_KINDS[(turn + index) % len(_KINDS)](rng, shape) for index in range(size)]
        low, high = value_range
        scaled = np.stack(pictures) * ((high - low) / 255.0) + low
        return np.asarray(scaled, np.float32)
    rest = tuple(side if side > 0 else _FREE_SIDES[0] for side in info.shape[1:])
    rows = rng.standard_normal((size, int(np.prod(rest))))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows.reshape(size, *rest), np.float32)


def _faces(rng: np.random.Generator, shape: tuple[int, int, int]) -> Picture:
    """Something like faces: an oval of skin with eyes, nose and mouth before a soft background."""
    channels, height, width = shape
    picture = _gradient(rng, shape) * 0.5
    across = max(1, round(width / height)) if width >= height else 1
    down = max(1, round(height / width)) if height > width else 1
    for row in range(down):
        for column in range(across):
            centre = ((row + 0.5) * height / down, (column + 0.5) * width / across)
            radius = 0.42 * min(height / down, width / across) * rng.uniform(0.8, 1.0)
            skin = rng.uniform(120, 230) * np.linspace(1.0, 0.7, channels)
            _blob(picture, centre, (radius * 1.15, radius * 0.85), skin)
            dark = skin * 0.25
            for y, x, tall, wide in _FEATURES:
                place = (centre[0] + y * radius, centre[1] + x * radius)
                _blob(picture, place, (tall * radius, wide * radius), dark)
    return picture


# Down, right, half height and half width, in radii of the face: eyes, nose, mouth.
_FEATURES = (
    (-0.25, -0.35, 0.10, 0.18),
    (-0.25, 0.35, 0.10, 0.18),
    (0.15, 0.0, 0.20, 0.08),
    (0.55, 0.0, 0.08, 0.32),
)


def _blob(
    picture: Picture,
    centre: tuple[float, float],
    radii: tuple[float, float],
    colour: NDArray[np.floating],
) -> None:
    """Paints an oval with soft edges."""
    rows = (np.arange(picture.shape[1])[:, None] - centre[0]) / radii[0]
    columns = (np.arange(picture.shape[2])[None, :] - centre[1]) / radii[1]
    cover = 1.0 / (1.0 + np.exp(np.clip(12.0 * (rows**2 + columns**2 - 1.0), -50, 50)))
    picture += (cover * (colour[:, None, None] - picture)).astype(np.float32)


def _gradient(rng: np.random.Generator, shape: tuple[int, int, int]) -> Picture:
    """Light that changes slowly, another way in each channel."""
    channels, height, width = shape
    rows = np.linspace(0, 1, height)[None, :, None]
    columns = np.linspace(0, 1, width)[None, None, :]
    slopes = rng.uniform(-1, 1, (2, channels, 1, 1))
    plane = rows * slopes[0] + columns * slopes[1]
    least = plane.min(axis=(1, 2), keepdims=True)
    span = plane.max(axis=(1, 2), keepdims=True) - least
    return np.asarray(255.0 * (plane - least) / np.maximum(span, 1e-6), np.float32)


def _noise(rng: np.random.Generator, shape: tuple[int, int, int]) -> Picture:
    """Every value by itself, whole numbers as in a picture file."""
    return rng.integers(0, 256, shape).astype(np.float32)


def _blocks(rng: np.random.Generator, shape: tuple[int, int, int]) -> Picture:
    """Even squares with hard edges."""
    channels, height, width = shape
    side = max(2, min(height, width) // 7)
    cells = rng.uniform(0, 255, (channels, -(-height // side), -(-width // side)))
    picture = cells.repeat(side, axis=1).repeat(side, axis=2)[:, :height, :width]
    return picture.astype(np.float32)


def _grainy_faces(rng: np.random.Generator, shape: tuple[int, int, int]) -> Picture:
    """Faces as a poor camera sees them."""
    grain = rng.normal(0, 20, shape)
    return np.clip(_faces(rng, shape) + grain, 0, 255).astype(np.float32)


_KINDS: tuple[Callable[[np.random.Generator, tuple[int, int, int]], Picture], ...] = (
    _faces,
    _gradient,
    _noise,
    _blocks,
    _grainy_faces,
)
