"""Heads cut out of photographs, to be pasted into scenes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from services.gateway.detection import Detection, FaceDetector

Pixels = NDArray[np.uint8]
Alpha = NDArray[np.float32]
Box = tuple[float, float, float, float]
"""Left, top, width, height in pixels."""

_FACE_HEIGHT = 160  # of a cut-out: more than any scene shows
_SIDES, _ABOVE, _BELOW = 0.45, 0.45, 0.30  # of the face's width and height, for hair and chin
_SOFT = 0.12  # width of the blended rim, as a share of the half axes


@dataclass(frozen=True)
class Cutout:
    """A head.

    Attributes:
        pixels: height x width x 3, BGR, 0-255.
        alpha: height x width, 0 (nothing) to 1 (head).
        box: of the face in it.
        eyes: pixels between the eyes.
    """

    pixels: Pixels
    alpha: Alpha
    box: Box
    eyes: float

    def scaled(self, face_height: float) -> Cutout:
        """The same with a face of this height, pixels."""
        factor = face_height / self.box[3]
        height, width = self.alpha.shape
        size = (max(round(width * factor), 2), max(round(height * factor), 2))
        method = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
        x, y, w, h = (side * factor for side in self.box)
        return Cutout(
            cv2.resize(self.pixels, size, interpolation=method),
            cv2.resize(self.alpha, size, interpolation=method),
            (x, y, w, h),
            self.eyes * factor,
        )


@dataclass(frozen=True)
class Actor:
    """Who walks through a scene.

    Attributes:
        person: key of the person.
        cutouts: shown in turns; one or more.
    """

    person: str
    cutouts: tuple[Cutout, ...]


def cut_out(pictures: Sequence[Path], detector: FaceDetector) -> tuple[Cutout, ...]:
    """Heads out of loose or aligned pictures; those without a face are left out.

    Args:
        pictures: files; the largest face of each is taken.
        detector: finds it.
    """
    return tuple(made for path in pictures if (made := _cut_out(path, detector)) is not None)


def _cut_out(path: Path, detector: FaceDetector) -> Cutout | None:
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if picture is None:
        return None
    found = detector.detect(np.ascontiguousarray(picture[:, :, ::-1]))
    return _head(picture, found[0]) if found else None


def _head(picture: Pixels, face: Detection) -> Cutout:
    x, y, w, h = face.box
    wanted = (x - _SIDES * w, y - _ABOVE * h, x + (1 + _SIDES) * w, y + (1 + _BELOW) * h)
    left, top = max(round(wanted[0]), 0), max(round(wanted[1]), 0)
    right = min(round(wanted[2]), picture.shape[1])
    bottom = min(round(wanted[3]), picture.shape[0])
    # The ellipse is that of the whole head, so that a picture's edge cuts it straight.
    across, down = (wanted[2] - wanted[0]) / 2, (wanted[3] - wanted[1]) / 2
    columns = (np.arange(left, right) + 0.5 - (wanted[0] + across)) / across
    rows = (np.arange(top, bottom) + 0.5 - (wanted[1] + down)) / down
    radius = np.hypot(rows[:, None], columns[None, :])
    alpha = np.clip((1.0 - radius) / _SOFT, 0.0, 1.0).astype(np.float32)
    eyes = float(np.hypot(*(face.points[1] - face.points[0])))
    box = (x - left, y - top, w, h)
    return Cutout(picture[top:bottom, left:right].copy(), alpha, box, eyes).scaled(_FACE_HEIGHT)
