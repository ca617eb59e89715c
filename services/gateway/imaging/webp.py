"""WebP: our own walk over the RIFF chunks, then Pillow."""

import io
import struct
from collections.abc import Iterator

from PIL import WebPImagePlugin

from services.gateway.imaging.picture import (
    ImageLimits,
    Picture,
    animated,
    check_size,
    corrupt,
    truncated,
)
from services.gateway.imaging.pixels import from_pillow
from services.gateway.imaging.sniff import Format
from services.gateway.imaging.tags import UPRIGHT, exif_orientation

_NAME = "WEBP"
_ANIMATION_FLAG = 0x02
_MAX_CHUNKS = 1024


def read(data: bytes, limits: ImageLimits) -> Picture:
    """Decode a still WebP, lossy or lossless. Bytes after the RIFF container are ignored.

    WebP has no grey channel: ``had_colour`` is always True.
    """
    source = _container(data)
    orientation = UPRIGHT
    for number, (name, body, length) in enumerate(_chunks(source)):
        if number >= _MAX_CHUNKS:
            raise corrupt(_NAME)
        if number == 0:
            check_size(*_size(source, name, body, length), _NAME, limits)
            if name == b"VP8X" and source[body] & _ANIMATION_FLAG:
                raise animated()
        if name in {b"ANIM", b"ANMF"}:
            raise animated()
        if name == b"EXIF":
            orientation = exif_orientation(source[body : body + length])
    return from_pillow(
        lambda: WebPImagePlugin.WebPImageFile(io.BytesIO(source)),
        Format.WEBP,
        limits,
        orientation=orientation,
    )


def _container(data: bytes) -> bytes:
    if len(data) < 20:
        raise truncated(_NAME)
    total = int.from_bytes(data[4:8], "little") + 8
    if total > len(data):
        raise truncated(_NAME)
    return data[:total]


def _chunks(source: bytes) -> Iterator[tuple[bytes, int, int]]:
    at = 12
    while at + 8 <= len(source):
        name, length = struct.unpack_from("<4sI", source, at)
        if at + 8 + length > len(source):
            raise corrupt(_NAME)
        yield name, at + 8, length
        at += 8 + length + length % 2


def _size(source: bytes, name: bytes, body: int, length: int) -> tuple[int, int]:
    """Width and height: of the canvas (VP8X), the key frame (VP8) or the lossless header (VP8L)."""
    if name == b"VP8X" and length >= 10:
        width = int.from_bytes(source[body + 4 : body + 7], "little") + 1
        return width, int.from_bytes(source[body + 7 : body + 10], "little") + 1
    if name == b"VP8 " and length >= 10 and source[body + 3 : body + 6] == b"\x9d\x01\x2a":
        width, height = struct.unpack_from("<HH", source, body + 6)
        return width & 0x3FFF, height & 0x3FFF
    if name == b"VP8L" and length >= 5 and source[body] == 0x2F:
        (bits,) = struct.unpack_from("<I", source, body + 1)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    raise corrupt(_NAME)
