"""How a good face becomes one of few pixels, and how that comes back to the network's size.

One module for training, tests, evaluation and serving. A picture here is (H,W,3) uint8, RGB, 0-255;
a good face is the 112x112 ArcFace crop; `side` is the side in pixels of what is left of it, any
whole number, not only a divisor of 112.

**Phase.** Pixel centres agree: cell i of `side` cells covers [i, i+1) x 112/side, and `decimate`
keeps the pixel that holds the cell's centre, floor((i + 1/2) x 112/side): 2, 6, 10 ... for 28 of
112, as PIL, scikit-image and torch's "nearest-exact" do (OpenCV's INTER_NEAREST and torch's
"nearest" keep 0, 4, 8 ..., which moves the face by up to half a cell: 3.5 px at 16 px). `up_sample`
uses the same rule the other way, and OpenCV's area and cubic kernels keep the centres too, so that
nothing in this module moves a face by more than half a pixel.

**Source domain** (spec, section 2): Gaussian blur in units of a cell, then decimation; for some of
the faces a little noise and a good JPEG, because no real picture is without (ours). **Target
domain** (section 9), simulated and disjoint from it: gamma, motion blur, cubic decimation,
Poisson-Gaussian noise of a sensor, JPEG. **Area** is the mean over each cell, what
`mien evaluate --probe-side` does; there the whole photograph is scaled, so that detection and
alignment suffer too, here the aligned crop. As a blur a cell's mean has a spread of 1/sqrt(12) =
0.29 cells, which lies inside the source domain's range.

**How the input tells its size.** By its spectrum: it ends at side/112 of what 112 px could hold.
Nearest up-sampling (the paper's) adds the grid of the cells, which the network must remove, and
which a verifier takes very badly; cubic up-sampling is already near the face that is wanted, so
that a residual network begins at cubic quality and can hardly fall below. Cubic is therefore the
default of the training's options, nearest the other choice.

All chance comes from the numpy generator handed in.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, Protocol

import cv2
import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

FULL_SIDE = 112
EYE_DISTANCE = 35.24
"""Between the eyes of the ArcFace template at 112 px (38.29, 51.70 and 73.53, 51.50), px."""

LEAST_SIDE, LARGEST_SIDE = 12, 64
"""Sides of the curve that a card shows; from 64 px on a face is left as it is (spec, section 6)."""

BLUR_OF_SPEC = 0.4
"""Sigma in cells: the spec's 1.6 px for the factor 4."""

REACH_IN_SIGMAS = 2.5
"""Half the Gaussian kernel: 9 taps for the spec's 1.6 px."""

Up = Literal["nearest", "bicubic"]
DomainName = Literal["area", "source", "stored", "target"]


class Domain(Protocol):
    """A way to lose pixels."""

    def degrade(self, picture: Bytes, side: int, rng: np.random.Generator) -> Bytes:
        """(S,S,3) good face -> (side,side,3)."""


@dataclass(frozen=True)
class AreaDomain:
    """The mean over each cell; no chance in it."""

    def degrade(self, picture: Bytes, side: int, rng: np.random.Generator) -> Bytes:
        """(S,S,3) -> (side,side,3)."""
        del rng
        return shrink_by_area(picture, side)


@dataclass(frozen=True)
class SourceDomain:
    """Gaussian blur, then decimation; then perhaps a little noise and a good JPEG.

    Attributes:
        blur_from: smallest sigma, in cells.
        blur_to: largest; equal to the smallest, there is no chance in it.
        stored: share of the faces that get what follows; 0 is the paper's domain.
        read: largest spread of the noise, levels.
        quality_from: worst JPEG quality.
        quality_to: best.
    """

    blur_from: float = BLUR_OF_SPEC
    blur_to: float = BLUR_OF_SPEC
    stored: float = 0.0
    read: float = 0.0
    quality_from: int = 100
    quality_to: int = 100

    def degrade(self, picture: Bytes, side: int, rng: np.random.Generator) -> Bytes:
        """(S,S,3) -> (side,side,3)."""
        sigma = rng.uniform(self.blur_from, self.blur_to) * len(picture) / side
        small = decimate(gaussian_blur(picture, sigma), side)
        if not self.stored or rng.random() >= self.stored:
            return small
        noisy = sensor_noise(small, 0.0, rng.uniform(0, self.read), rng)
        return jpeg(noisy, int(rng.integers(self.quality_from, self.quality_to + 1)))


@dataclass(frozen=True)
class TargetDomain:
    """Gamma, motion blur, cubic decimation, sensor noise, JPEG: simulated surveillance.

    Attributes:
        gamma: strongest exponent, at least 1; drawn log-uniformly between its inverse and itself.
        motion: longest path, in cells; the shortest is half a cell.
        shot: largest variance of the photon noise per level of brightness, levels.
        read: largest spread of the noise without light, levels.
        quality_from: worst JPEG quality; the spec's is 30.
        quality_to: best.
    """

    gamma: float = 1.4
    motion: float = 1.5
    shot: float = 0.6
    read: float = 4.0
    quality_from: int = 25
    quality_to: int = 60

    def degrade(self, picture: Bytes, side: int, rng: np.random.Generator) -> Bytes:
        """(S,S,3) -> (side,side,3)."""
        cell = len(picture) / side
        bent = gamma(picture, float(np.exp(rng.uniform(-1, 1) * math.log(self.gamma))))
        path = rng.uniform(min(0.5, self.motion), self.motion) * cell
        moved = motion_blur(bent, path, float(rng.uniform(0, 180)))
        small = cv2.resize(moved, (side, side), interpolation=cv2.INTER_CUBIC)
        noisy = sensor_noise(small, rng.uniform(0, self.shot), rng.uniform(0, self.read), rng)
        return jpeg(noisy, int(rng.integers(self.quality_from, self.quality_to + 1)))


def eye_distance(side: int) -> float:
    """Distance between the eyes in pixels of a face whose crop has `side` pixels."""
    return EYE_DISTANCE * side / FULL_SIDE


def draw_side(rng: np.random.Generator, least: int, largest: int) -> int:
    """A side between both, as likely to double as to halve: uniform in its logarithm."""
    return round(float(np.exp(rng.uniform(math.log(least), math.log(largest)))))


def cell_pixels(cells: int, pixels: int) -> npt.NDArray[np.intp]:
    """(cells,) the pixel, of `pixels`, that holds each cell's centre."""
    return ((2 * np.arange(cells) + 1) * pixels) // (2 * cells)


def decimate(picture: Bytes, side: int) -> Bytes:
    """Keeps the pixel at each cell's centre, nothing else: (S,S,3) -> (side,side,3)."""
    kept = cell_pixels(side, len(picture))
    return np.ascontiguousarray(picture[kept][:, kept])


def shrink_by_area(picture: Bytes, side: int) -> Bytes:
    """The mean over each cell, cells at their exact borders: (S,S,3) -> (side,side,3)."""
    small = cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA)
    return np.asarray(small, dtype=np.uint8)


def up_sample(small: Bytes, kernel: Up, side: int = FULL_SIDE) -> Bytes:
    """(s,s,3) -> (side,side,3), each pixel from the cell that it lies in, or cubic between them."""
    if kernel == "nearest":
        return decimate(small, side)
    large = cv2.resize(small, (side, side), interpolation=cv2.INTER_CUBIC)
    return np.asarray(large, dtype=np.uint8)


def network_input(small: Bytes, kernel: Up) -> Floats:
    """(s,s,3) -> (3,112,112) float32, -1 to 1: what the generator takes."""
    return scaled(up_sample(small, kernel))


def scaled(picture: Bytes) -> Floats:
    """(H,W,3) uint8 -> (3,H,W) float32, -1 to 1."""
    return (picture.transpose(2, 0, 1) / 127.5 - 1).astype(np.float32)


def levels(image: npt.NDArray[np.floating]) -> Bytes:
    """(...,3,H,W) -1 to 1 -> (...,H,W,3) uint8; what lies outside is clipped."""
    values = np.clip((image + 1) * 127.5, 0, 255).round().astype(np.uint8)
    return np.ascontiguousarray(np.moveaxis(values, -3, -1))


def gaussian_blur(picture: Bytes, sigma: float) -> Bytes:
    """Blur with a spread of `sigma` px; none for 0. Edges are mirrored."""
    reach = math.ceil(REACH_IN_SIGMAS * sigma)
    if not reach:
        return picture
    taps = 2 * reach + 1
    return np.asarray(cv2.GaussianBlur(picture, (taps, taps), sigma), dtype=np.uint8)


def motion_blur(picture: Bytes, length: float, degrees: float) -> Bytes:
    """The mean along a straight path.

    Args:
        picture: (H,W,3).
        length: of the path, px; up to 1 changes nothing.
        degrees: of the path, from the horizontal.
    """
    reach = math.ceil((length - 1) / 2)
    if reach < 1:
        return picture
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1), np.float32)
    along = np.linspace(-(length - 1) / 2, (length - 1) / 2, 4 * reach + 1)
    angle = math.radians(degrees)
    columns = np.rint(reach + along * math.cos(angle)).astype(int)
    rows = np.rint(reach + along * math.sin(angle)).astype(int)
    np.add.at(kernel, (rows, columns), 1.0)
    return np.asarray(cv2.filter2D(picture, -1, kernel / kernel.sum()), dtype=np.uint8)


def sensor_noise(picture: Bytes, shot: float, read: float, rng: np.random.Generator) -> Bytes:
    """Poisson-Gaussian noise: a variance of shot x brightness + read^2.

    Args:
        picture: (H,W,3).
        shot: levels per photon; 0 is light without grain.
        read: spread of the noise that is there without light, levels.
        rng: source of chance.
    """
    light: npt.NDArray[np.floating] = picture.astype(np.float64)
    if shot > 0:
        light = rng.poisson(light / shot) * shot
    noisy = light + rng.normal(0, read, picture.shape) if read > 0 else light
    return np.clip(noisy, 0, 255).round().astype(np.uint8)


def gamma(picture: Bytes, exponent: float) -> Bytes:
    """(v/255)^exponent: above 1 darker, below 1 brighter; black and white stay."""
    table = (np.linspace(0, 1, 256) ** exponent * 255).round().astype(np.uint8)
    return np.asarray(cv2.LUT(picture, table), dtype=np.uint8)


def jpeg(picture: Bytes, quality: int) -> Bytes:
    """Written as JPEG, colour at half resolution, and read again."""
    _, data = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), dtype=np.uint8)
    return np.ascontiguousarray(decoded[..., ::-1])
