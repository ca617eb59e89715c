"""JPEG: our own walk over the headers, then libjpeg-turbo."""

import struct
from dataclasses import dataclass

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from services.gateway.imaging.picture import (
    ImageLimits,
    Picture,
    check_size,
    corrupt,
    truncated,
    unsupported,
)
from services.gateway.imaging.pixels import DECODER_ERRORS, upright
from services.gateway.imaging.sniff import Format
from services.gateway.imaging.tags import UPRIGHT, exif_orientation

_NAME = "JPEG"
_APP1, _SOI, _EOI, _SOS = 0xE1, 0xD8, 0xD9, 0xDA
_BARE_MARKERS = frozenset({0x01, *range(0xD0, 0xD8)})
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SEQUENTIAL = frozenset({0xC0, 0xC1})
_PROGRESSIVE = 0xC2
_WHOLE_SPECTRUM = b"\0\x3f\0"

_MAX_SEGMENTS = 4096
"""Real files have under 300 (the colour profile alone may take 255)."""

_MAX_SCANS = 64
"""Each progressive scan costs a pass over the whole picture; encoders write about ten."""


@dataclass(slots=True)
class _Header:
    frame: int = 0
    precision: int = 0
    width: int = 0
    height: int = 0
    components: int = 0
    orientation: int = UPRIGHT
    scan: int = 0


def read(data: bytes, limits: ImageLimits) -> Picture:
    """Decode a JPEG: grey, YCbCr, RGB, CMYK or YCCK; baseline or progressive, 8 bits.

    Bytes after the end-of-image marker are ignored (phones append film clips there). A file that
    stops early, or whose data are damaged so that the decoder notices, is refused rather than
    filled up with grey.
    """
    header = _scan_header(data)
    check_size(header.width, header.height, _NAME, limits)
    is_plain = header.frame in _SEQUENTIAL or header.frame == _PROGRESSIVE
    if not is_plain or header.precision != 8 or header.components not in {1, 3, 4}:
        raise unsupported("This variant of JPEG")
    if header.frame == _PROGRESSIVE and data.count(b"\xff\xda", header.scan) > _MAX_SCANS:
        raise corrupt(_NAME)
    is_cmyk = header.components == 4
    try:
        pixels = simplejpeg.decode_jpeg(_mended(data, header), "CMYK" if is_cmyk else "RGB")
    except DECODER_ERRORS as error:
        is_cut = data.rfind(b"\xff\xd9") < header.scan
        raise (truncated(_NAME) if is_cut else corrupt(_NAME)) from error
    if pixels.shape[:2] != (header.height, header.width):
        raise corrupt(_NAME)
    if is_cmyk:
        pixels = _rgb_from_inverted_cmyk(pixels)
    if header.orientation != UPRIGHT:
        pixels = upright(pixels, header.orientation)
    return Picture(pixels, Format.JPEG.value, header.components != 1)


def _scan_header(data: bytes) -> _Header:
    """Walk the segments up to the first scan."""
    header = _Header()
    at = 2
    for _ in range(_MAX_SEGMENTS):
        while data[at : at + 2] == b"\xff\xff":
            at += 1
        if at + 4 > len(data):
            raise truncated(_NAME)
        marker = data[at + 1]
        if data[at] != 0xFF or marker in {0, _SOI, _EOI}:
            raise corrupt(_NAME)
        if marker in _BARE_MARKERS:
            at += 2
            continue
        (length,) = struct.unpack_from(">H", data, at + 2)
        body, at = at + 4, at + 2 + length
        if length < 2:
            raise corrupt(_NAME)
        if at > len(data):
            raise truncated(_NAME)
        if marker in _FRAMES:
            if length < 8 or header.frame:
                raise corrupt(_NAME)
            header.frame = marker
            header.precision, header.height, header.width, header.components = struct.unpack_from(
                ">BHHB", data, body
            )
        elif marker == _APP1 and data.startswith(b"Exif\0\0", body):
            header.orientation = exif_orientation(data[body:at])
        elif marker == _SOS:
            if not header.frame:
                raise corrupt(_NAME)
            header.scan = at
            return header
    raise corrupt(_NAME)


def _mended(data: bytes, header: _Header) -> bytes:
    """The file with the scan's spectral range put right, which some phones leave at zero.

    A sequential scan always covers the whole range, so the picture is sound; but the decoder
    would warn, and a warning counts as damage here.
    """
    at = header.scan - 3
    if header.frame not in _SEQUENTIAL or data[at : header.scan] == _WHOLE_SPECTRUM:
        return data
    return data[:at] + _WHOLE_SPECTRUM + data[header.scan :]


def _rgb_from_inverted_cmyk(ink: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Adobe's CMYK (255 is no ink) to RGB, as the product of the light that each ink lets pass.

    Every known writer of CMYK JPEGs follows Adobe here, with or without Adobe's marker.
    """
    light = ink[..., :3].astype(np.uint16)
    light *= ink[..., 3:]
    light += 127
    light //= 255
    return light.astype(np.uint8)
