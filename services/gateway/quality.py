"""Quality of a face, as components under the names of ISO/IEC 29794-5 and as one score.

The components are simple, documented measurements, not the standard's reference implementation
(OFIQ): the names mean the same things, the numbers are not interchangeable.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from services.gateway.pose import Pose
from services.modality import FACE

Pixels = NDArray[np.uint8]

_DARK, _BRIGHT = 25, 247  # luminance limits of under- and over-exposure, as OFIQ uses them

# What each component weighs in the unified score. Sharpness, size and pose decide recognition;
# light matters less to embedding models.
_WEIGHTS = {
    "sharpness": 3.0,
    "inter_eye_distance": 2.0,
    "head_pose_yaw": 2.0,
    "head_pose_pitch": 1.0,
    "dynamic_range": 1.0,
    "illumination_uniformity": 0.5,
    "under_exposure_prevention": 0.5,
    "over_exposure_prevention": 0.5,
    "detector_confidence": 2.0,
}


@dataclass(frozen=True)
class Quality:
    """Quality scores, 0 to 100, higher is better.

    Attributes:
        unified: weighted geometric mean of the components, so that one bad one shows.
        components: scores by name.
    """

    unified: float
    components: dict[str, float]


def measure_quality(crop: Pixels, pose: Pose, inter_eye_distance: float, score: float) -> Quality:
    """Measures a face.

    Args:
        crop: aligned 112 x 112 x 3, RGB, 0-255.
        pose: the head's pose, degrees.
        inter_eye_distance: pixels of the picture as sent.
        score: the detector's score, 0 to 1.
    """
    grey = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)
    face = grey[FACE]
    counts = np.bincount(face.ravel(), minlength=256)
    total = face.size
    components = {
        "sharpness": _sharpness(grey),
        "inter_eye_distance": _rising(inter_eye_distance, middle=24.0, width=7.0),
        "head_pose_yaw": _facing(pose.yaw),
        "head_pose_pitch": _facing(pose.pitch),
        "head_pose_roll": _facing(pose.roll),
        "dynamic_range": _dynamic_range(counts, total),
        "illumination_uniformity": _uniformity(face),
        "under_exposure_prevention": 100.0 * (1 - float(counts[:_DARK].sum()) / total),
        "over_exposure_prevention": 100.0 * (1 - float(counts[_BRIGHT:].sum()) / total),
        "detector_confidence": 100.0 * min(max((score - 0.3) / 0.6, 0.0), 1.0),
    }
    logs = sum(
        weight * math.log(max(components[name], 1.0) / 100.0) for name, weight in _WEIGHTS.items()
    )
    unified = 100.0 * math.exp(logs / sum(_WEIGHTS.values()))
    return Quality(unified, components)


def _sharpness(grey: Pixels) -> float:
    """Energy of fine detail relative to contrast: blur and upscaling lower it, light does not."""
    face = grey[FACE]
    detail = cv2.Laplacian(cv2.GaussianBlur(grey, (3, 3), 0), cv2.CV_32F)[FACE]
    contrast = float(face.std()) + 8.0
    return _rising(math.log(float(detail.std()) / contrast + 1e-6), middle=-2.2, width=0.35)


def _dynamic_range(counts: NDArray[np.intp], total: int) -> float:
    """Entropy of luminance; 7 of the possible 8 bits count as full."""
    shares = counts[counts > 0] / total
    entropy = float(-(shares * np.log2(shares)).sum())
    return 100.0 * min(entropy / 7.0, 1.0)


def _uniformity(face: Pixels) -> float:
    """Overlap of the luminance histograms of the face's two halves."""
    half = face.shape[1] // 2
    left = np.bincount(face[:, :half].ravel() >> 4, minlength=16) / face[:, :half].size
    right = np.bincount(face[:, half:].ravel() >> 4, minlength=16) / face[:, half:].size
    return 100.0 * float(np.minimum(left, right).sum())


def _facing(angle: float) -> float:
    """Squared cosine of an angle in degrees; 0 from 90 degrees on."""
    return 100.0 * max(0.0, math.cos(math.radians(min(abs(angle), 90.0)))) ** 2


def _rising(value: float, middle: float, width: float) -> float:
    """Logistic curve: 50 at ``middle``, near 0 and 100 four ``width`` away."""
    return 100.0 / (1.0 + math.exp(-(value - middle) / width))
