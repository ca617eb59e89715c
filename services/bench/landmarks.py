"""How far a face's points wander when its picture is changed a little, looked at once and twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from models.zoo import Zoo
from services.bench.result import BenchResult
from services.errors import MienError
from services.evaluation import PairsError
from services.gateway.detection import FaceDetector
from services.gateway.imaging import ImageError, ImageLimits, decode
from services.gateway.pose import estimate_pose
from services.gateway.second_look import look_again
from services.gateway.server import load_detector
from services.picture_files import pictures_below
from services.settings import Settings

Pixels = NDArray[np.uint8]
Places = NDArray[np.float64]

_CHANGES = 4
_SCALES = (0.75, 1.3)
_DEGREES = 8.0
_SHIFT = 8.0  # pixels
_SEED = 0


def bench_landmarks(settings: Settings, images: Path, pictures: int) -> BenchResult:
    """Measures the spread of the largest face's points under random scale, rotation and shift.

    The value is the root mean square distance of the points from their mean, after the changes are
    undone, in percent of the distance between eyes and mouth; the reference is the same without
    the second look. Only faces turned beyond the setting's angle are taken.

    Args:
        settings: of the detector.
        images: folder with pictures, searched through.
        pictures: how many are measured at most.

    Raises:
        PairsError: no picture shows a turned face.
    """
    detector = load_detector(Zoo(settings.home), settings)
    rng = np.random.default_rng(_SEED)
    once, twice = [], []
    for picture in _turned(detector, settings, images, rng):
        spreads = _spreads(detector, picture, rng)
        if spreads is None:
            continue
        once.append(spreads[0])
        twice.append(spreads[1])
        if len(once) == pictures:
            break
    if not once:
        raise PairsError(f"No picture in {images} shows a turned face.")
    return BenchResult(
        value=float(np.mean(twice)),
        reference=float(np.mean(once)),
        unit="percent of the distance between eyes and mouth",
        details={"pictures": len(once), "changes": _CHANGES},
    )


def _turned(
    detector: FaceDetector, settings: Settings, images: Path, rng: np.random.Generator
) -> Iterator[Pixels]:
    """Pictures in random order whose largest face is turned."""
    limits = ImageLimits(settings.image.max_bytes, settings.image.max_pixels)
    files = pictures_below(images)
    for index in rng.permutation(len(files)):
        try:
            pixels = decode(files[index].read_bytes(), limits).pixels
        except (ImageError, MienError):
            continue
        found = detector.detect(pixels)
        if found and abs(estimate_pose(found[0].points).yaw) > settings.detection.second_look_yaw:
            yield pixels


def _spreads(
    detector: FaceDetector, picture: Pixels, rng: np.random.Generator
) -> tuple[float, float] | None:
    """Spread of the points looked at once and twice; None where a changed picture shows no face."""
    once, twice = [], []
    for _ in range(_CHANGES):
        changed, linear, shift = _changed(picture, rng)
        found = detector.detect(changed)
        if not found:
            return None
        back = np.linalg.inv(linear).T
        again = look_again(changed, found[0], detector.detect_as_is)
        once.append((found[0].points - shift) @ back)
        twice.append((again.points - shift) @ back)
    return _spread(np.array(once)), _spread(np.array(twice))


def _changed(picture: Pixels, rng: np.random.Generator) -> tuple[Pixels, Places, Places]:
    height, width = picture.shape[:2]
    scale = float(np.exp(rng.uniform(*np.log(_SCALES))))
    angle = np.radians(rng.uniform(-_DEGREES, _DEGREES))
    linear = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    middle = np.array([width, height]) / 2
    shift = scale * middle - linear @ middle + rng.uniform(-_SHIFT, _SHIFT, 2)
    changed = cv2.warpAffine(
        picture,
        np.column_stack([linear, shift]),
        (round(width * scale), round(height * scale)),
        flags=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return np.asarray(changed, dtype=np.uint8), linear, shift


def _spread(points: Places) -> float:
    """Root mean square distance from the mean of (changes, 5, 2) points, in percent."""
    mean = points.mean(axis=0)
    size = float(np.linalg.norm(mean[3:].mean(axis=0) - mean[:2].mean(axis=0)))
    return 100.0 * float(np.sqrt(np.square(points - mean).sum(axis=2).mean())) / size
