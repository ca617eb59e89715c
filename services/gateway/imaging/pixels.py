"""From what a decoder gives to upright RGB pixels."""

import struct
import zlib
from collections.abc import Callable, Mapping

import cv2
import numpy as np
from cv2.typing import MatLike
from numpy.typing import NDArray
from PIL import Image

from services.gateway.imaging.picture import (
    ImageLimits,
    Picture,
    check_size,
    corrupt,
    unsupported,
)
from services.gateway.imaging.sniff import Format

DECODER_ERRORS: tuple[type[Exception], ...] = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    Image.DecompressionBombError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    Warning,
    struct.error,
    zlib.error,
)
"""What the decoder libraries are known to raise on hostile bytes (``Warning`` when the process
turns warnings into errors)."""

_WHITE = (255, 255, 255)
_FULL_16_BIT = 65535
_GREY_MODES = frozenset({"1", "L", "LA", "La"})
_DEEP_GREY_MODES = frozenset({"I;16", "I;16L", "I;16B"})
_COLOUR_MODES = frozenset({"P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr"})


def from_pillow(
    open_image: Callable[[], Image.Image],
    kind: Format,
    limits: ImageLimits,
    *,
    orientation: int,
    white_level: int = _FULL_16_BIT,
) -> Picture:
    """Load an image that Pillow has yet to open, and turn it into a picture.

    Args:
        open_image: opens the file, without loading its pixels.
        kind: the format, for the picture and for messages.
        limits: checked again, for the decoder may read another size than our header check did.
        orientation: 1 to 8, as in EXIF; applied here.
        white_level: the value of white in 16-bit grey.

    Raises:
        ImageError: CORRUPT for whatever the decoder trips over; UNSUPPORTED_FORMAT for pixel
            types that have no agreed white, such as 32-bit integers and floats.
    """
    name = kind.upper()
    try:
        with open_image() as image:
            check_size(*image.size, name, limits)
            image.load()
            if image.mode not in _GREY_MODES | _DEEP_GREY_MODES | _COLOUR_MODES:
                raise unsupported(f"A {name} picture with this type of pixel")
            had_colour = _has_colour(image)
            if image.mode in _DEEP_GREY_MODES:
                pixels = _deep_grey(np.asarray(image), white_level)
            else:
                pixels = np.array(_flat(image), dtype=np.uint8)
    except DECODER_ERRORS as error:
        raise corrupt(name) from error
    return Picture(upright(pixels, orientation), kind.value, had_colour)


def upright(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Undo the turn and the mirroring that an EXIF orientation (1 to 8) declares.

    Args:
        pixels: (H, W, 3) as stored.
        orientation: where the stored first row and column lie in the upright picture.

    Returns:
        (H, W, 3), or (W, H, 3) for orientations 5 to 8; C-contiguous.
    """
    is_turned, mirror = _MOVES.get(orientation, (False, None))
    # OpenCV copies turned pixels several times faster than NumPy's strided views do.
    moved: MatLike = cv2.transpose(pixels) if is_turned else pixels
    if mirror is not None:
        moved = cv2.flip(moved, mirror)
    return np.ascontiguousarray(moved, dtype=np.uint8)


_ACROSS, _DOWN, _BOTH = 1, 0, -1
_MOVES: Mapping[int, tuple[bool, int | None]] = {
    2: (False, _ACROSS),
    3: (False, _BOTH),
    4: (False, _DOWN),
    5: (True, None),
    6: (True, _ACROSS),
    7: (True, _BOTH),
    8: (True, _DOWN),
}
"""By orientation: whether rows and columns change places, and OpenCV's flip to do after it."""


def _has_colour(image: Image.Image) -> bool:
    if image.mode in {"P", "PA"} and image.palette is not None:
        table = np.frombuffer(image.im.getpalette("RGB", "RGB"), np.uint8).reshape(-1, 3)
        used = table[np.unique(np.asarray(image.getchannel(0)))]
        return bool((used != used[:, :1]).any())
    return image.mode not in _GREY_MODES | _DEEP_GREY_MODES


def _flat(image: Image.Image) -> Image.Image:
    """RGB, with transparency laid on white: what most viewers and printers show."""
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")
    if image.mode == "La":
        image = image.convert("LA")
    layered = image.convert("RGBA")
    canvas = Image.new("RGB", layered.size, _WHITE)
    canvas.paste(layered, mask=layered.getchannel("A"))
    return canvas


def _deep_grey(grey: NDArray[np.uint16], white_level: int) -> NDArray[np.uint8]:
    """16-bit grey (H, W) to 8-bit RGB, scaled (not clipped) so that white stays white."""
    scaled = (grey.astype(np.uint32) * 255 + white_level // 2) // white_level
    return np.repeat(np.minimum(scaled, 255).astype(np.uint8)[..., None], 3, axis=2)
