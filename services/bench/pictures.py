"""The pictures that are measured with: the demo's photographs at 250 x 250 pixels."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from services.demo_pictures import PAIRS, pull_pictures
from services.gateway.alignment import CropGeometry, align
from services.gateway.detection import FaceDetector

_SIDE = 250
_QUALITY = 90


def small_pairs(home: Path) -> list[tuple[bytes, bytes]]:
    """Pairs of JPEG files of 250 x 250 pixels.

    Raises:
        FetchError: the photographs cannot be downloaded.
    """
    folder = pull_pictures(home)
    return [(_small(folder / pair.probe), _small(folder / pair.reference)) for pair in PAIRS]


def aligned_crops(detector: FaceDetector, home: Path, count: int) -> NDArray[np.uint8]:
    """Aligned crops of the photographs' faces, count x 112 x 112 x 3, RGB, in turn."""
    crops = []
    for probe, reference in small_pairs(home):
        for data in (probe, reference):
            pixels = simplejpeg.decode_jpeg(data, colorspace="RGB")
            crops.append(align(pixels, detector.detect(pixels)[0].points, CropGeometry()))
    return np.stack([crops[index % len(crops)] for index in range(count)])


def _small(path: Path) -> bytes:
    """A photograph cut to a square around its upper part and scaled down."""
    pixels = simplejpeg.decode_jpeg(path.read_bytes(), colorspace="RGB")
    side = min(pixels.shape[:2])
    left = (pixels.shape[1] - side) // 2
    square = pixels[:side, left : left + side]
    scaled = cv2.resize(square, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    encoded: bytes = simplejpeg.encode_jpeg(np.ascontiguousarray(scaled), quality=_QUALITY)
    return encoded
