"""BMP: our own check of the header, then Pillow."""

import io
import struct

from PIL import BmpImagePlugin

from services.gateway.imaging.picture import (
    ImageLimits,
    Picture,
    check_size,
    corrupt,
    truncated,
    unsupported,
)
from services.gateway.imaging.pixels import from_pillow
from services.gateway.imaging.sniff import Format
from services.gateway.imaging.tags import UPRIGHT

_NAME = "BMP"
_FILE_HEADER = 14
_CORE_HEADER = 12
_INFO_HEADERS = frozenset({40, 52, 56, 64, 108, 124})
_DEPTHS = frozenset({1, 4, 8, 16, 24, 32})
_MAX_COLOURS = 256
_RAW, _BIT_FIELDS = 0, 3


def read(data: bytes, limits: ImageLimits) -> Picture:
    """Decode an uncompressed BMP.

    Run-length coding is refused: no camera writes it, and unpacking it is slow.
    """
    if len(data) < _FILE_HEADER + 4:
        raise truncated(_NAME)
    offset, header = struct.unpack_from("<II", data, 10)
    if header != _CORE_HEADER and header not in _INFO_HEADERS:
        raise corrupt(_NAME)
    if len(data) < _FILE_HEADER + header:
        raise truncated(_NAME)
    coding = colours = 0
    if header == _CORE_HEADER:
        width, height, _, depth = struct.unpack_from("<HHHH", data, 18)
    else:
        width, height, _, depth, coding = struct.unpack_from("<iiHHI", data, 18)
        (colours,) = struct.unpack_from("<I", data, 46)
    # A negative height is a picture stored from the top down.
    height = abs(height)
    check_size(width, height, _NAME, limits)
    if coding not in {_RAW, _BIT_FIELDS}:
        raise unsupported("A compressed BMP")
    if depth not in _DEPTHS or (depth <= 8 and colours > _MAX_COLOURS):
        raise corrupt(_NAME)
    if offset < _FILE_HEADER + header:
        raise corrupt(_NAME)
    row = (width * depth + 31) // 32 * 4
    if offset + row * height > len(data):
        raise truncated(_NAME)
    return from_pillow(
        lambda: BmpImagePlugin.BmpImageFile(io.BytesIO(data)),
        Format.BMP,
        limits,
        orientation=UPRIGHT,
    )
