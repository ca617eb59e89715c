"""What comes out of the imaging stage: a picture, or the reason why there is none."""

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

MIN_SIDE = 16
"""Shortest side in pixels: below it no face can be found, let alone compared."""

_MILLION = 1_000_000
_MEBIBYTE = 1024 * 1024


class ImageProblem(StrEnum):
    """Why a file was refused."""

    EMPTY = "empty"
    TOO_MANY_BYTES = "too_many_bytes"
    TOO_MANY_PIXELS = "too_many_pixels"
    UNSUPPORTED_FORMAT = "unsupported_format"
    ANIMATED = "animated"
    TRUNCATED = "truncated"
    CORRUPT = "corrupt"
    TOO_SMALL = "too_small"


class ImageError(Exception):
    """A file that gives no picture.

    Attributes:
        kind: the reason, for machines.
        detail: the reason as an English sentence that may be shown to the caller. It holds
            nothing from the file and no text of a decoder library.
    """

    def __init__(self, kind: ImageProblem, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """How much one file may ask for: bytes as sent, pixels as declared in its header."""

    max_bytes: int = 10 * _MEBIBYTE
    max_pixels: int = 40 * _MILLION


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A decoded picture.

    Attributes:
        pixels: (H, W, 3) uint8, RGB, C-contiguous, upright (the file's orientation is applied).
        format: "jpeg", "png", "webp", "bmp", "tiff" or "heic".
        had_colour: False when the file itself holds only grey channels (or a grey palette).
    """

    pixels: NDArray[np.uint8]
    format: str
    had_colour: bool


def corrupt(name: str) -> ImageError:
    """The error for a file that is damaged or breaks the rules of its format."""
    return ImageError(ImageProblem.CORRUPT, f"The {name} file is damaged and cannot be read.")


def truncated(name: str) -> ImageError:
    """The error for a file whose end is missing."""
    return ImageError(ImageProblem.TRUNCATED, f"The {name} file is incomplete: its end is missing.")


def unsupported(what: str) -> ImageError:
    """The error for a kind of picture that this service does not read."""
    return ImageError(
        ImageProblem.UNSUPPORTED_FORMAT,
        f"{what} is not accepted; send a JPEG, PNG, WebP, BMP, TIFF or HEIC picture.",
    )


def animated() -> ImageError:
    """The error for a file with more than one picture in it."""
    return ImageError(
        ImageProblem.ANIMATED, "The file holds more than one picture; send a single still picture."
    )


def check_bytes(count: int, limits: ImageLimits) -> None:
    """Refuse an empty file and one above the limit of bytes."""
    if count == 0:
        raise ImageError(ImageProblem.EMPTY, "The file is empty.")
    if count > limits.max_bytes:
        raise ImageError(
            ImageProblem.TOO_MANY_BYTES,
            f"The file has {_bytes(count)}; at most {_bytes(limits.max_bytes)} are accepted.",
        )


def check_size(width: int, height: int, name: str, limits: ImageLimits) -> None:
    """Refuse a picture by the size that its header declares, before anything is decoded."""
    if width <= 0 or height <= 0:
        raise corrupt(name)
    if width * height > limits.max_pixels:
        raise ImageError(
            ImageProblem.TOO_MANY_PIXELS,
            f"The picture has {_pixels(width * height)} pixels; "
            f"at most {_pixels(limits.max_pixels)} are accepted.",
        )
    if min(width, height) < MIN_SIDE:
        raise ImageError(
            ImageProblem.TOO_SMALL,
            f"The picture is {width} by {height} pixels; "
            f"each side must be at least {MIN_SIDE} pixels.",
        )


def _rounded(count: int, unit: int) -> str:
    """One decimal, rounded up, so that a refused count never reads as the limit itself."""
    return f"{math.ceil(count * 10 / unit) / 10:.12g}"


def _pixels(count: int) -> str:
    return f"{_rounded(count, _MILLION)} million" if count >= _MILLION else str(count)


def _bytes(count: int) -> str:
    return f"{_rounded(count, _MEBIBYTE)} MiB" if count >= _MEBIBYTE else f"{count} bytes"
