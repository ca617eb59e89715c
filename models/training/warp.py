"""Geometric augmentation: similarity jitter and simulated yaw, points and picture together.

Yaw is simulated by lifting a near-frontal crop onto a generic head surface, turning the surface
about its vertical axis, hiding what falls behind, and aligning the turned five points to the
template again, because that is what the aligner does to a real profile.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]

SIDE = 112
TEMPLATE = np.array(
    [
        [38.2946, 51.6963],
        [73.5318, 51.5014],
        [56.0252, 71.7366],
        [41.5493, 92.3655],
        [70.7299, 92.2041],
    ],
    dtype=np.float32,
)
"""ArcFace's five points in a 112x112 crop: image-left eye, image-right eye, nose, mouth corners."""

AXIS = 56.0
HEAD_WIDTH = 46.0
HEAD_HEIGHT = 66.0
HEAD_MIDDLE = 62.0
HEAD_DEPTH = 52.0
"""Half axes and vertical middle of the head ellipsoid, in template pixels (63 mm = 35 px)."""

NOSE = (56.0, 70.0, 14.0, 6.5, 13.0)
"""Tip x and y, height over the ellipsoid, and the widths of its bell across and along."""

EYE_SINK = 3.0
STEP = 5
"""Degrees between the prepared turns."""

OVERSAMPLE = 4
PAD = 40
"""Columns beyond the crop in which a turned surface may land."""


def surface_depth(x: Floats, y: Floats) -> Floats:
    """Height of the generic head towards the camera at template position (x,y), in pixels."""
    across = (x - AXIS) / HEAD_WIDTH
    along = (y - HEAD_MIDDLE) / HEAD_HEIGHT
    inside = np.clip(1 - across**2 - along**2, 0, None)
    depth = HEAD_DEPTH * np.sqrt(inside)
    tip_x, tip_y, height, wide, tall = NOSE
    fall = np.where(y < tip_y, tall, tall / 2)
    depth += height * np.exp(-(((x - tip_x) / wide) ** 2) - ((y - tip_y) / fall) ** 2)
    for eye_x, eye_y in TEMPLATE[:2]:
        depth -= EYE_SINK * np.exp(-(((x - eye_x) / 7) ** 2) - ((y - eye_y) / 5) ** 2)
    return np.asarray(depth, dtype=np.float32)


@lru_cache(maxsize=64)
def turn_table(degrees: int) -> Floats:
    """Where each pixel of a turned face comes from.

    Args:
        degrees: turn about the vertical axis, positive towards the right edge of the picture.

    Returns:
        (112, 112+2*PAD): the source column of every pixel of the turned picture, whose column 0
        lies PAD pixels left of the template's crop.
    """
    angle = np.radians(degrees)
    x = np.arange(-PAD, SIDE + PAD, 1 / OVERSAMPLE, dtype=np.float32)
    y = np.arange(SIDE, dtype=np.float32)
    depth = surface_depth(*np.meshgrid(x, y))
    landed = AXIS + (x - AXIS) * np.cos(angle) + depth * np.sin(angle)
    nearness = depth * np.cos(angle) - (x - AXIS) * np.sin(angle)
    columns = np.rint(landed + PAD).astype(np.int64)
    width = SIDE + 2 * PAD
    table = np.full((SIDE, width), np.nan, dtype=np.float32)
    for row in range(SIDE):
        order = np.argsort(nearness[row], kind="stable")
        order = order[(columns[row][order] >= 0) & (columns[row][order] < width)]
        table[row, columns[row][order]] = x[order]
        known = np.isfinite(table[row])
        table[row] = np.interp(np.arange(width), np.flatnonzero(known), table[row][known])
    return np.asarray(cv2.GaussianBlur(table, (0, 0), 0.8), dtype=np.float32)


def turn_points(points: Floats, degrees: float) -> Floats:
    """(5,2) crop coordinates -> the same points on the turned head."""
    angle = np.radians(degrees)
    depth = surface_depth(points[:, 0], points[:, 1])
    turned = points.copy()
    turned[:, 0] = AXIS + (points[:, 0] - AXIS) * np.cos(angle) + depth * np.sin(angle)
    return turned


def fit_similarity(source: Floats, target: Floats) -> npt.NDArray[np.float64]:
    """(2,3) least-squares rotation, one scale and shift that take (K,2) points to (K,2) points."""
    from_mean, to_mean = source.mean(axis=0), target.mean(axis=0)
    a, b = (source - from_mean).astype(np.float64), (target - to_mean).astype(np.float64)
    norm = (a**2).sum()
    real = (a * b).sum() / norm
    imaginary = (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum() / norm
    linear = np.array([[real, -imaginary], [imaginary, real]])
    return np.column_stack([linear, to_mean - linear @ from_mean])


def move_points(points: Floats, matrix: npt.NDArray[np.float64]) -> Floats:
    """(K,2) points through a (2,3) affine map."""
    return np.asarray(points @ matrix[:, :2].T + matrix[:, 2], dtype=np.float32)


def turn_face(
    crop: Bytes,
    points: Floats,
    degrees: float,
    jitter: npt.NDArray[np.float64],
    border: int,
    backdrop: tuple[int, int, int] | None = None,
) -> tuple[Bytes, Floats]:
    """A crop turned by `degrees`, aligned again, then moved by `jitter`.

    Args:
        crop: (S,S,3) RGB with `border` pixels around the template's 112x112.
        points: (5,2) px in crop coordinates.
        degrees: turn, rounded to the next prepared one.
        jitter: (2,3) affine map within the 112x112 picture.
        border: px.
        backdrop: colour of what the turn uncovers; the mirrored picture when not given.

    Returns:
        (112,112,3) and (5,2) in its coordinates.
    """
    degrees = round(degrees / STEP) * STEP
    table = turn_table(degrees)
    turned = turn_points(points - border, degrees)
    align = compose(jitter, fit_similarity(turned, TEMPLATE))
    back = cv2.invertAffineTransform(align)
    grid_x, grid_y = _grid()
    at_x = (back[0, 0] * grid_x + back[0, 1] * grid_y + back[0, 2]).astype(np.float32)
    at_y = (back[1, 0] * grid_x + back[1, 1] * grid_y + back[1, 2]).astype(np.float32)
    from_x = cv2.remap(table, at_x + PAD, at_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    edge = cv2.BORDER_REFLECT_101 if backdrop is None else cv2.BORDER_CONSTANT
    picture = cv2.remap(
        crop,
        from_x + border,
        at_y + border,
        cv2.INTER_LINEAR,
        borderMode=edge,
        borderValue=backdrop or (0, 0, 0),
    )
    return picture, move_points(turned, align)


def move_face(
    crop: Bytes, points: Floats, jitter: npt.NDArray[np.float64], border: int
) -> tuple[Bytes, Floats]:
    """The central 112x112 moved by `jitter`; arguments and result as in `turn_face`."""
    shift = np.array([[1.0, 0.0, -border], [0.0, 1.0, -border]])
    matrix = compose(jitter, shift)
    picture = cv2.warpAffine(
        crop, matrix, (SIDE, SIDE), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT
    )
    return picture, move_points(points, matrix)


def compose(
    outer: npt.NDArray[np.float64], inner: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """The (2,3) map that applies `inner` first."""
    linear = outer[:, :2] @ inner[:, :2]
    return np.column_stack([linear, outer[:, :2] @ inner[:, 2] + outer[:, 2]])


def random_jitter(
    rng: np.random.Generator, degrees: float, scale: float, shift: float
) -> npt.NDArray[np.float64]:
    """Rotation, scale and shift about the picture's centre, each normal with the given spread.

    Args:
        rng: source of chance.
        degrees: spread of the rotation.
        scale: spread of the logarithm of the scale.
        shift: spread of the shift, px.
    """
    angle, size = np.radians(rng.normal(0, degrees)), np.exp(rng.normal(0, scale))
    linear = size * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    centre = np.full(2, (SIDE - 1) / 2)
    return np.column_stack([linear, centre - linear @ centre + rng.normal(0, shift, 2)])


@lru_cache(maxsize=1)
def _grid() -> tuple[Floats, Floats]:
    x, y = np.meshgrid(np.arange(SIDE, dtype=np.float32), np.arange(SIDE, dtype=np.float32))
    return x, y
