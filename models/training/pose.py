"""Euler angles of a face from five points, by PnP on a small 3-D template.

Angles are degrees in the order pitch, yaw, roll. Yaw is positive when the face is turned towards
the right edge of the picture, pitch when it looks down, roll when it leans clockwise as seen.
A mirrored picture gives yaw and roll of the opposite sign and the same pitch.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

TEMPLATE_3D = np.array(
    [
        [-31.5, -36.0, 0.0],
        [31.5, -36.0, 0.0],
        [0.0, 0.0, -27.0],
        [-26.0, 36.5, -3.0],
        [26.0, 36.5, -3.0],
    ],
    dtype=np.float64,
)
"""Image-left eye, image-right eye, nose tip, image-left and image-right mouth corner, in mm.

x to the right, y down, z away from the camera, origin at the height of the nose tip. The front
view follows the ArcFace template with 63 mm between the pupils; the depths are ours: a nose tip
27 mm before the eyes, mouth corners 3 mm.
"""

FIELD_OF_VIEW = 60.0
CROP_SIDE = 112.0
MIRROR = np.array([1, 0, 2, 4, 3])
"""Order of the five points after a mirror."""

UNKNOWN = np.full(3, np.nan, dtype=np.float32)


def euler_angles(points: Floats, side: float = CROP_SIDE) -> Floats:
    """Pitch, yaw, roll of one face.

    Args:
        points: (5,2) in pixels of a square picture.
        side: its side, px; the camera looks at its centre with a field of view of 60 degrees.

    Returns:
        (3,) degrees, NaN when no pose fits.
    """
    if not np.isfinite(points).all():
        return UNKNOWN.copy()
    focal = side / 2 / np.tan(np.radians(FIELD_OF_VIEW / 2))
    centre = (side - 1) / 2
    camera = np.array([[focal, 0, centre], [0, focal, centre], [0, 0, 1]])
    image = points.astype(np.float64).reshape(5, 1, 2)
    try:
        found, rotation, move = cv2.solvePnP(
            TEMPLATE_3D, image, camera, None, flags=cv2.SOLVEPNP_SQPNP
        )
    except cv2.error:
        return UNKNOWN.copy()
    if not found:
        return UNKNOWN.copy()
    rotation, move = cv2.solvePnPRefineLM(TEMPLATE_3D, image, camera, None, rotation, move)
    return angles_of(cv2.Rodrigues(rotation)[0])


def angles_of(rotation: npt.NDArray[np.float64]) -> Floats:
    """(3,3) rotation, camera axes x right, y down, z away -> pitch, yaw, roll in degrees."""
    nose = -rotation[:, 2]
    yaw = np.arctan2(nose[0], -nose[2])
    pitch = np.arctan2(nose[1], np.hypot(nose[0], nose[2]))
    level = np.array([np.cos(yaw), 0.0, np.sin(yaw)])
    down = np.cross(-nose, level)
    right = rotation[:, 0]
    roll = np.arctan2(right @ down, right @ level)
    return np.degrees([pitch, yaw, roll]).astype(np.float32)


def mirror(points: Floats, side: float) -> Floats:
    """(...,5,2) points of the mirrored picture of width `side` px, pixel centres at integers."""
    flipped = points[..., MIRROR, :].copy()
    flipped[..., 0] = side - 1 - flipped[..., 0]
    return flipped
