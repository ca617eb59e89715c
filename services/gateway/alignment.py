"""Aligns a face to the five-point template that an embedding model is trained on."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Points = NDArray[np.float32]

_FEW_PIXELS = 1.75  # enlarged more, a face had 64 px or fewer and is cut out cubically


@dataclass(frozen=True)
class _Template:
    """Where image-left eye, image-right eye, nose tip and both mouth corners lie in a square crop.

    Attributes:
        points: 5 x 2 pixels.
        side: pixels of the crop.
    """

    points: NDArray[np.float64]
    side: int


_ARCFACE = _Template(
    np.array(
        [
            (38.2946, 51.6963),
            (73.5318, 51.5014),
            (56.0252, 71.7366),
            (41.5493, 92.3655),
            (70.7299, 92.2041),
        ]
    ),
    112,
)
_DLIB = _Template(
    np.array(
        [
            (46.65, 45.53),
            (103.35, 45.53),
            (75.0, 77.92),
            (50.7, 103.19),
            (99.3, 103.19),
        ]
    ),
    150,
)
"""Where YuNet's five points lie in the chips that dlib cuts, with padding 0.25, by five points of
its own: the corners of the eyes and the base of the nose. The mean over 939 of 996 pictures of LFW,
without those in which the two disagree by 15 pixels; then made symmetric, and 1 % larger, because
least squares shrink scattered points. dlib's mean face of 68 points says nearly the same:
(47.5,46.6) (100.5,46.6) (74.0,76.6) (50.4,103.0) (97.6,103.0)."""
_TEMPLATES = {"arcface": _ARCFACE, "dlib": _DLIB}


@dataclass(frozen=True)
class CropGeometry:
    """Size of a crop, and where the face lies in it.

    Attributes:
        width: pixels.
        height: pixels.
        template: name of the five-point template: "arcface", defined for 112 x 112 pixels, or
            "dlib", for 150 x 150.
        template_scale: enlarges the face about the template's centre; 1 leaves it.
    """

    width: int = 112
    height: int = 112
    template: str = "arcface"
    template_scale: float = 1.0

    def points(self) -> NDArray[np.float64]:
        """Where the five points belong in the crop, 5 x 2 pixels.

        The coordinates are taken as they are used in training code: points are scaled by crop side
        over the template's, then about the crop's centre.
        """
        size = np.array([self.width, self.height], np.float64)
        template = _TEMPLATES[self.template]
        placed = template.points * (size / template.side)
        return (placed - size / 2) * self.template_scale + size / 2


def similarity_transform(
    source: NDArray[np.floating], target: NDArray[np.floating]
) -> NDArray[np.float64]:
    """The rotation, scale and shift that best move points onto others (least squares).

    With points as complex numbers, ``target = a * source + b`` has the closed form
    ``a = sum(conj(source) * target) / sum(|source|^2)`` about the means. It is Umeyama's solution
    without reflection.

    Args:
        source: N x 2.
        target: N x 2.

    Returns:
        2 x 3 matrix.

    Raises:
        ValueError: all source points coincide.
    """
    z = source[:, 0] + 1j * source[:, 1].astype(np.float64)
    w = target[:, 0] + 1j * target[:, 1].astype(np.float64)
    z_mean, w_mean = z.mean(), w.mean()
    z_centred = z - z_mean
    spread = float(np.vdot(z_centred, z_centred).real)
    if spread < 1e-9:
        raise ValueError("the points coincide")
    a = np.vdot(z_centred, w - w_mean) / spread
    b = w_mean - a * z_mean
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


def native_side(points: Points) -> float:
    """Pixels of the picture across the 112 x 112 crop of a face.

    Args:
        points: 5 x 2, pixels of the picture.
    """
    matrix = similarity_transform(points, _ARCFACE.points)
    return _ARCFACE.side / float(np.hypot(matrix[0, 0], matrix[1, 0]))


def recut(crop: Pixels, geometry: CropGeometry) -> Pixels:
    """A face's 112 x 112 crop as another crop of the same face.

    What the wanted crop shows beyond the 112 pixels is black; of a chip of dlib's, that is the
    lowest 14 of its 150 rows.

    Args:
        crop: 112 x 112 x 3, RGB, 0-255, on ArcFace's template itself.
        geometry: the crop that is wanted.
    """
    return align(crop, _ARCFACE.points.astype(np.float32), geometry)


def align(picture: Pixels, points: Points, geometry: CropGeometry) -> Pixels:
    """Cuts a face out so that its five points lie on the template.

    Args:
        picture: height x width x 3, RGB, 0-255.
        points: 5 x 2, pixels of the picture.
        geometry: the crop.

    Returns:
        geometry.height x geometry.width x 3, RGB, 0-255; black outside the picture.
    """
    matrix = similarity_transform(points, geometry.points())
    # Enhancers were trained on faces that were enlarged cubically.
    enlarged = float(np.hypot(matrix[0, 0], matrix[1, 0])) > _FEW_PIXELS
    return cut(picture, matrix, geometry.width, geometry.height, cubic=enlarged)


def cut(
    picture: Pixels,
    matrix: NDArray[np.float64],
    width: int,
    height: int,
    border: int = cv2.BORDER_CONSTANT,
    *,
    cubic: bool = False,
) -> Pixels:
    """Moves a picture by a similarity and cuts out its upper left corner.

    A picture that becomes much smaller is scaled down by area first, because the warp samples four
    pixels only and would alias.

    Args:
        picture: height x width x 3, 0-255.
        matrix: 2 x 3, from the picture to what is cut out.
        width: of what is cut out, pixels.
        height: likewise.
        border: OpenCV's way to fill what lies outside the picture; black by default.
        cubic: sample sixteen pixels instead of four, for a picture that becomes larger.
    """
    if float(np.hypot(matrix[0, 0], matrix[1, 0])) < 0.5:
        picture, matrix = _shrink(picture, matrix, width, height)
    kernel = cv2.INTER_CUBIC if cubic else cv2.INTER_LINEAR
    moved: Pixels = cv2.warpAffine(
        picture, matrix, (width, height), flags=kernel, borderMode=border
    )
    return moved


def _shrink(
    picture: Pixels, matrix: NDArray[np.float64], width: int, height: int
) -> tuple[Pixels, NDArray[np.float64]]:
    """Takes the part of the picture that will be seen, scaled by area, and the matrix for it."""
    scale = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    corners = np.array([(0, 0), (width, 0), (0, height), (width, height)], np.float64)
    inverse = cv2.invertAffineTransform(matrix)
    seen = corners @ inverse[:, :2].T + inverse[:, 2]
    rows, columns = picture.shape[:2]
    margin = 2 / scale
    left, top = np.clip(np.floor(seen.min(axis=0) - margin), 0, (columns - 1, rows - 1)).astype(int)
    right, bottom = np.clip(
        np.ceil(seen.max(axis=0) + margin), (left + 1, top + 1), (columns, rows)
    ).astype(int)
    part = picture[top:bottom, left:right]
    size = (max(1, round(part.shape[1] * scale)), max(1, round(part.shape[0] * scale)))
    shrunk = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
    # Scaling by area keeps the corners of pixels in place, not their centres.
    factors = np.array([size[0] / part.shape[1], size[1] / part.shape[0]])
    offset = np.array([left, top]) + 0.5 / factors - 0.5
    shift = matrix[:, :2] @ offset + matrix[:, 2]
    return shrunk, np.column_stack([matrix[:, :2] / factors, shift])
