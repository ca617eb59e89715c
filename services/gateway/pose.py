"""Head pose in degrees from five points, by fitting a rigid model (perspective-n-point)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float32]

# An average adult head in millimetres, nose tip at the origin; x to the picture's right, y down,
# z away from the camera. Distances across follow the ArcFace template at 63 mm between the pupils;
# depths are anthropometric means (nose tip to eye plane 35 mm, to mouth corners 25 mm).
_HEAD = np.array(
    [
        (-31.5, -36.0, 35.0),
        (31.5, -36.0, 35.0),
        (0.0, 0.0, 0.0),
        (-26.0, 37.0, 25.0),
        (26.0, 37.0, 25.0),
    ],
    np.float64,
)
# Pictures are cropped and lenses unknown, so the size of the picture says nothing of the camera.
# A head at this distance is assumed, in millimetres; the estimate hardly depends on it.
_DISTANCE = 1500.0
_HEAD_SPREAD = float(np.linalg.norm((_HEAD - _HEAD.mean(axis=0))[:, :2], axis=1).mean())


@dataclass(frozen=True)
class Pose:
    """Head pose in degrees; signs as in ISO/IEC 39794-5.

    Attributes:
        yaw: positive when the subject looks to their own left (the picture's right).
        pitch: positive when the subject looks down.
        roll: positive when the head leans towards the subject's right shoulder (the picture's
            left).
    """

    yaw: float
    pitch: float
    roll: float


def estimate_pose(points: Points) -> Pose:
    """Estimates the head's pose from the detector's five points.

    Five points determine it only roughly: expect errors of several degrees. Large yaw is
    underestimated, because the detector then guesses the far eye and mouth corner: full profiles
    come out at about 35 to 70 degrees.

    Args:
        points: 5 x 2, pixels of the picture.
    """
    seen = points.astype(np.float64)
    middle = seen.mean(axis=0)
    spread = float(np.linalg.norm(seen - middle, axis=1).mean())
    if spread < 1e-3:
        return Pose(0.0, 0.0, 0.0)
    focal = _DISTANCE * spread / _HEAD_SPREAD
    camera = np.array([[focal, 0, middle[0]], [0, focal, middle[1]], [0, 0, 1]])
    found, rotation, _ = cv2.solvePnP(
        _HEAD, seen.reshape(-1, 1, 2), camera, None, flags=cv2.SOLVEPNP_SQPNP
    )
    if not found:
        return Pose(0.0, 0.0, _roll_of_eyes(points))
    matrix, _ = cv2.Rodrigues(rotation)
    return _angles(matrix)


def _angles(matrix: NDArray[np.float64]) -> Pose:
    """Splits a rotation (y down, z away) into yaw, then pitch, then roll."""
    facing = -matrix[:, 2]  # where the nose points; (0, 0, -1) for a frontal face
    yaw = math.degrees(math.atan2(facing[0], -facing[2]))
    pitch = math.degrees(math.asin(float(np.clip(facing[1], -1.0, 1.0))))
    down, right = matrix[:, 1], matrix[:, 0]
    roll = math.degrees(math.atan2(-right[1], down[1]))
    return Pose(yaw, pitch, roll)


def _roll_of_eyes(points: Points) -> float:
    (x0, y0), (x1, y1) = points[0], points[1]
    return -math.degrees(math.atan2(float(y1 - y0), float(x1 - x0)))
