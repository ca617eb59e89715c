"""A second look at a turned face, or one of few pixels, for steadier points.

YuNet has to guess the far eye and the far corner of the mouth of a turned face, and guesses
otherwise when the face is shifted, turned or mirrored a little; a face of few pixels it sees at a
size at which it is not exact. The mean over several views of the same face is steadier than any one
of them (docs/decisions/0003-second-look.md).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from services.gateway.alignment import Pixels, cut
from services.gateway.detection import Detection

SIDE = 256
"""Pixels of a view; one of the detector's usual sizes."""

_View = tuple[float, float, bool]
"""Pixels that the longer side of the face takes, in-plane turn in degrees, and whether mirrored."""

_OF_TURNED: tuple[_View, ...] = (
    (140.0, 0.0, False), (140.0, 0.0, True), (140.0, 8.0, False), (140.0, -8.0, True),
)  # fmt: skip
# An enlarged face is found best a little smaller, and at several sizes.
_OF_FEW_PIXELS: tuple[_View, ...] = tuple(
    (size, 0.0, mirrored) for size in (85.0, 100.0, 115.0, 130.0) for mirrored in (False, True)
)
_BOX = 1.25  # height of YuNet's box over its face's

_FARTHEST = 0.35  # of the box: points farther from where they were belong to another face
_MIRRORED = [1, 0, 2, 4, 3]  # the five points when left and right change places

Finder = Callable[[Pixels], list[Detection]]


def look_again(
    picture: Pixels, seen: Detection, find: Finder, *, few_pixels: bool = False
) -> Detection:
    """The same face with the mean of its points over several views.

    Args:
        picture: height x width x 3, RGB, 0-255.
        seen: a face in it.
        find: finds faces in a view of ``SIDE`` x ``SIDE`` pixels.
        few_pixels: the first points count for nothing, because there the views see four times
            better; and more views are taken.

    Returns:
        The face; its box and score as they were.
    """
    points = [] if few_pixels else [seen.points.astype(np.float64)]
    farthest = _FARTHEST * max(seen.box[2:])
    for view in _OF_FEW_PIXELS if few_pixels else _OF_TURNED:
        found = _seen_in(picture, seen, view, find, cubic=few_pixels)
        if found is not None and float(np.abs(found - seen.points).max()) < farthest:
            points.append(found)
    if not points:
        return seen
    return replace(seen, points=np.mean(points, axis=0).astype(np.float32))


def _seen_in(
    picture: Pixels, seen: Detection, view: _View, find: Finder, *, cubic: bool
) -> NDArray[np.float64] | None:
    """The face's points as one view shows them, in pixels of the picture; None if it shows none."""
    size, degrees, mirrored = view
    x, y, width, height = seen.box
    scale = size * _BOX / max(width, height)
    angle = np.radians(degrees)
    linear = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    shift = SIDE / 2 - linear @ np.array([x + width / 2, y + height / 2])
    matrix = np.column_stack([linear, shift])
    shown = cut(picture, matrix, SIDE, SIDE, cv2.BORDER_REPLICATE, cubic=cubic)
    if mirrored:
        shown = np.ascontiguousarray(shown[:, ::-1])
    faces = find(shown)
    if not faces:
        return None
    points = min(faces, key=_from_middle).points.astype(np.float64)
    if mirrored:
        points = _unmirrored(points)
    there: NDArray[np.float64] = (points - shift) @ np.linalg.inv(linear).T
    return there


def _unmirrored(points: NDArray[np.float64]) -> NDArray[np.float64]:
    turned = points[_MIRRORED]
    turned[:, 0] = SIDE - 1 - turned[:, 0]
    return turned


def _from_middle(face: Detection) -> float:
    x, y, width, height = face.box
    return float(np.hypot(x + (width - SIDE) / 2, y + (height - SIDE) / 2))
