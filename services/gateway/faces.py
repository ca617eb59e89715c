"""From a picture to measured faces, and the choice among several."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from models.ddat.degradations import LARGEST_SIDE
from services.errors import Errors, MienError
from services.gateway.alignment import CropGeometry, align, native_side
from services.gateway.detection import Detection
from services.gateway.pose import Pose, estimate_pose
from services.gateway.quality import Quality, measure_quality
from services.modality import Modality, measure_modality
from services.resolution import measure_side

Pixels = NDArray[np.uint8]

MEASURING_CROP = CropGeometry()  # quality and modality are defined on the 112 x 112 crop


@dataclass(frozen=True)
class Face:
    """One face, measured.

    Attributes:
        detection: box, points and score in pixels of the upright picture.
        pose: degrees.
        quality: 0 to 100.
        modality: visible, or without colour.
        inter_eye_distance: pixels of the picture as sent.
        native_side: pixels of the picture across the face's 112 x 112 crop; fewer where the picture
            itself was enlarged.
    """

    detection: Detection
    pose: Pose
    quality: Quality
    modality: Modality
    inter_eye_distance: float
    native_side: float


class Selection(StrEnum):
    """Which face of a picture is meant when it shows several."""

    LARGEST = "largest"
    INDEX = "index"
    REFUSE = "refuse"
    CENTRAL = "central"


@dataclass(frozen=True)
class FaceChoice:
    """A selection, with the index that `Selection.INDEX` needs (0 is the largest face)."""

    selection: Selection = Selection.LARGEST
    index: int = 0


def measure_face(picture: Pixels, detection: Detection) -> tuple[Face, Pixels]:
    """Measures pose, quality and modality of a detected face.

    Args:
        picture: height x width x 3, RGB, 0-255, upright.
        detection: a face in it.

    Returns:
        The face, and the crop of `MEASURING_CROP` that it was measured on.
    """
    pose = estimate_pose(detection.points)
    left, right = detection.points[0], detection.points[1]
    distance = float(np.hypot(*(right - left)))
    crop = align(picture, detection.points, MEASURING_CROP)
    # A head that is turned shows its eyes closer together than they are.
    facing = max(math.cos(math.radians(pose.yaw)), 0.25)
    face = Face(
        detection=detection,
        pose=pose,
        quality=measure_quality(crop, pose, distance / facing, detection.score),
        modality=measure_modality(crop),
        inter_eye_distance=distance,
        native_side=_native_side(detection.points, crop),
    )
    return face, crop


def _native_side(points: NDArray[np.float32], crop: Pixels) -> float:
    """What the picture has across the crop, or what an enlarged picture was made from."""
    across = native_side(points)
    if across <= LARGEST_SIDE:
        return across
    measured = measure_side(crop)
    return measured if measured <= LARGEST_SIDE else across


def choose(
    detections: list[Detection], choice: FaceChoice, height: int, width: int, field: str
) -> int | None:
    """Index of the face that the caller means, or None when there is none or it is refused.

    Args:
        detections: largest box first.
        choice: the caller's rule.
        height: of the picture, pixels.
        width: of the picture, pixels.
        field: the request's field that holds the picture, for the error.

    Raises:
        MienError: the caller named an index that no face has.
    """
    if not detections:
        return None
    match choice.selection:
        case Selection.LARGEST:
            return 0
        case Selection.REFUSE:
            return 0 if len(detections) == 1 else None
        case Selection.CENTRAL:
            return _most_central(detections, height, width)
        case Selection.INDEX:
            if choice.index >= len(detections):
                raise MienError(
                    Errors.FACE_INDEX_OUT_OF_RANGE,
                    f"The picture shows {len(detections)} faces, counted from 0.",
                    field=field,
                    face_count=len(detections),
                )
            return choice.index


def _most_central(detections: list[Detection], height: int, width: int) -> int:
    def distance(index: int) -> float:
        x, y, w, h = detections[index].box
        return math.hypot(x + w / 2 - width / 2, y + h / 2 - height / 2)

    return min(range(len(detections)), key=distance)
