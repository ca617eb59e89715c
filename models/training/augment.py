"""Augmentation of one aligned face towards what breaks face models.

Each part has its own probability; 0 switches it off. Geometry comes first and carries the five
points along; what follows changes the look alone. All chance comes from the generator handed in.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from models.training import warp
from models.training.faces import BORDER, CROP_SIDE
from models.training.pose import euler_angles, mirror

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

KERNELS = (cv2.INTER_NEAREST, cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_AREA)
LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
NIR_MIX = np.array([0.75, 0.35, -0.10], dtype=np.float32)
"""Near infrared is brightest where red is: skin and lips light up, blue adds nothing."""


class Augmentation(BaseModel):
    """Probabilities in [0,1] and strengths of each part."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    flip: float = Field(0.5, ge=0, le=1, description="mirror; yaw changes sign")
    turn: float = Field(0.25, ge=0, le=1, description="simulated yaw of near-frontal faces")
    turn_from: float = Field(15.0, ge=0, le=75, description="least turn, degrees")
    turn_to: float = Field(60.0, ge=0, le=75, description="largest turn, degrees")
    turn_limit: float = Field(20.0, ge=0, le=90, description="faces beyond this yaw are not turned")
    jitter: float = Field(
        0.8, ge=0, le=1, description="rotation, scale and shift, as detectors err"
    )
    jitter_degrees: float = Field(3.0, ge=0, description="spread of the rotation, degrees")
    jitter_scale: float = Field(0.03, ge=0, description="spread of the logarithm of the scale")
    jitter_shift: float = Field(1.2, ge=0, description="spread of the shift, px")
    light: float = Field(0.5, ge=0, le=1, description="gain, offset, gamma and colour cast")
    low_resolution: float = Field(0.12, ge=0, le=1, description="down and up by random kernels")
    low_resolution_from: int = Field(14, ge=6, le=112, description="smallest side, px")
    low_resolution_to: int = Field(56, ge=6, le=112, description="largest side, px")
    blur: float = Field(0.1, ge=0, le=1, description="Gaussian or motion blur")
    grey: float = Field(0.06, ge=0, le=1, description="luminance in all three channels")
    near_infrared: float = Field(0.05, ge=0, le=1, description="simulated near-infrared look")
    occlusion: float = Field(0.08, ge=0, le=1, description="a patch or a band over the face")
    jpeg: float = Field(0.15, ge=0, le=1, description="JPEG at quality 20 to 80")


NONE = Augmentation(
    flip=0, turn=0, jitter=0, light=0, low_resolution=0, blur=0, grey=0, near_infrared=0,
    occlusion=0, jpeg=0,
)  # fmt: skip
"""Everything off: the central 112x112 as it is."""


class Sample(NamedTuple):
    """One prepared face: picture, points and pose agree with each other.

    Attributes:
        picture: (112,112,3) uint8 RGB.
        points: (5,2) px in the picture.
        euler: (3,) pitch, yaw, roll, degrees; NaN when unknown.
    """

    picture: Bytes
    points: Floats
    euler: Floats


def augment(
    crop: Bytes, points: Floats, euler: Floats, options: Augmentation, rng: np.random.Generator
) -> Sample:
    """One training sample from a 128x128 crop.

    Args:
        crop: (128,128,3) uint8 RGB.
        points: (5,2) px in crop coordinates.
        euler: (3,) pose of the crop, degrees.
        options: what to do.
        rng: source of chance.
    """
    if rng.random() < options.flip:
        crop, points = np.ascontiguousarray(crop[:, ::-1]), mirror(points, CROP_SIDE)
        euler = euler * np.array([1, -1, -1], dtype=np.float32)
    still = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    shake = rng.random() < options.jitter
    jitter = (
        warp.random_jitter(rng, options.jitter_degrees, options.jitter_scale, options.jitter_shift)
        if shake
        else still
    )
    turnable = bool(np.abs(euler[1]) <= options.turn_limit)
    if rng.random() < options.turn and turnable:
        degrees = rng.uniform(options.turn_from, options.turn_to) * rng.choice((-1, 1))
        backdrop = None if rng.random() < 0.4 else _colour(rng)
        picture, points = warp.turn_face(crop, points, degrees, jitter, BORDER, backdrop)
        euler = euler_angles(points)
    else:
        picture, points = warp.move_face(crop, points, jitter, BORDER)
        if shake:
            euler = euler_angles(points)
    return Sample(change_look(picture, options, rng), points, euler)


def change_look(picture: Bytes, options: Augmentation, rng: np.random.Generator) -> Bytes:
    """Light, spectrum, occlusion, resolution, blur and compression, in the order of a camera."""
    parts = (
        (options.light, relight),
        (options.near_infrared, near_infrared),
        (options.grey, grey),
        (options.occlusion, occlude),
    )
    for probability, part in parts:
        if rng.random() < probability:
            picture = part(picture, rng)
    if rng.random() < options.blur:
        picture = blur(picture, rng)
    if rng.random() < options.low_resolution:
        picture = low_resolution(
            picture, rng, options.low_resolution_from, options.low_resolution_to
        )
    if rng.random() < options.jpeg:
        picture = jpeg(picture, rng)
    return picture


def relight(picture: Bytes, rng: np.random.Generator) -> Bytes:
    """Gain, offset, gamma and a slight colour cast, through one table per channel."""
    ramp = np.linspace(0, 1, 256, dtype=np.float32)[:, None]
    gain = rng.uniform(0.7, 1.35) * rng.uniform(0.93, 1.07, 3)
    table = np.clip(ramp ** rng.uniform(0.7, 1.4) * gain + rng.uniform(-0.1, 0.1), 0, 1)
    return _table(picture, table * 255)


def grey(picture: Bytes, rng: np.random.Generator) -> Bytes:
    """Luminance; now and then with another weighting of the channels, as old film had."""
    weights = LUMA if rng.random() < 0.7 else rng.dirichlet(np.ones(3)).astype(np.float32)
    return _mix(picture, weights)


def near_infrared(picture: Bytes, rng: np.random.Generator) -> Bytes:
    """Simulated near-infrared look: red-weighted grey, flat skin, light falling off to the rim."""
    weights = NIR_MIX + rng.normal(0, 0.05, 3).astype(np.float32)
    field = _mix(picture, weights)[..., 0].astype(np.float32) / 255
    smooth = cv2.GaussianBlur(field, (0, 0), rng.uniform(0.6, 1.6))
    side = picture.shape[0]
    axis = np.linspace(-1, 1, side, dtype=np.float32)
    centre = rng.uniform(-0.3, 0.3, 2)
    distance = (axis[:, None] - centre[0]) ** 2 + (axis[None] - centre[1]) ** 2
    light = np.exp(-distance * rng.uniform(0.1, 0.5))
    lit = np.clip(smooth, 0, 1) ** rng.uniform(0.6, 1.1) * light
    noisy = lit * 255 + rng.normal(0, rng.uniform(0, 5), lit.shape)
    return np.repeat(np.clip(noisy, 0, 255).astype(np.uint8)[..., None], 3, axis=2)


def occlude(picture: Bytes, rng: np.random.Generator) -> Bytes:
    """A rectangle, an ellipse, or a band over eyes or mouth, in one colour or in noise."""
    out = picture.copy()
    side = picture.shape[0]
    mask = np.zeros((side, side), np.uint8)
    kind = rng.random()
    if kind < 0.3:
        top, height = (0.36, 0.16) if rng.random() < 0.5 else (0.62, 0.38)
        cv2.rectangle(mask, (0, int(top * side)), (side, int((top + height) * side)), 1, -1)
    else:
        middle = rng.integers(0, side, 2)
        half = rng.integers(side // 12, side // 4, 2)
        if kind < 0.65:
            cv2.rectangle(mask, (middle - half).tolist(), (middle + half).tolist(), 1, -1)
        else:
            angle = float(rng.uniform(0, 180))
            cv2.ellipse(mask, middle.tolist(), half.tolist(), angle, 0, 360, 1, -1)
    fill: npt.NDArray[np.generic] = np.array(_colour(rng), dtype=np.uint8)
    if rng.random() < 0.3:
        fill = rng.integers(0, 256, (int(mask.sum()), 3))
    out[mask == 1] = fill
    return out


def low_resolution(picture: Bytes, rng: np.random.Generator, least: int, most: int) -> Bytes:
    """Down to a random side and up again, each by a random kernel and with a random phase."""
    side = picture.shape[0]
    small = round(float(np.exp(rng.uniform(np.log(least), np.log(most)))))
    phase = rng.uniform(-0.5, 0.5, 2) * side / small
    shift = np.array([[1, 0, phase[0]], [0, 1, phase[1]]])
    moved = cv2.warpAffine(picture, shift, (side, side), borderMode=cv2.BORDER_REPLICATE)
    down = cv2.resize(moved, (small, small), interpolation=_kernel(rng))
    up = cv2.resize(down, (side, side), interpolation=_kernel(rng))
    shift[:, 2] *= -1
    return np.asarray(
        cv2.warpAffine(up, shift, (side, side), borderMode=cv2.BORDER_REPLICATE), dtype=np.uint8
    )


def blur(picture: Bytes, rng: np.random.Generator) -> Bytes:
    """Gaussian blur of 0.5 to 2.5 px, or motion of 3 to 9 px in a random direction."""
    if rng.random() < 0.6:
        return np.asarray(cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.5, 2.5)), dtype=np.uint8)
    length = int(rng.integers(3, 10))
    angle = rng.uniform(0, np.pi)
    reach = (length - 1) / 2
    kernel = np.zeros((length, length), np.float32)
    dx, dy = reach * np.cos(angle), reach * np.sin(angle)
    start = (round(reach - dx), round(reach - dy))
    cv2.line(kernel, start, (round(reach + dx), round(reach + dy)), 1.0)
    return np.asarray(cv2.filter2D(picture, -1, kernel / kernel.sum()), dtype=np.uint8)


def jpeg(picture: Bytes, rng: np.random.Generator) -> Bytes:
    """JPEG at quality 20 to 80."""
    quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(20, 81))]
    _, data = cv2.imencode(".jpg", picture[..., ::-1], quality)
    decoded = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), dtype=np.uint8)
    return np.ascontiguousarray(decoded[..., ::-1])


def _kernel(rng: np.random.Generator) -> int:
    return int(KERNELS[rng.integers(len(KERNELS))])


def _colour(rng: np.random.Generator) -> tuple[int, int, int]:
    """Black one time in three, otherwise any colour."""
    if rng.random() < 1 / 3:
        return (0, 0, 0)
    red, green, blue = (int(v) for v in rng.integers(0, 256, 3))
    return red, green, blue


def _mix(picture: Bytes, weights: Floats) -> Bytes:
    field = np.clip(picture.astype(np.float32) @ weights, 0, 255).astype(np.uint8)
    return np.repeat(field[..., None], 3, axis=2)


def _table(picture: Bytes, table: npt.NDArray[np.floating]) -> Bytes:
    return np.asarray(cv2.LUT(picture, table.astype(np.uint8)[None]), dtype=np.uint8)
