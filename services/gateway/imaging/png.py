"""PNG: our own walk over the chunks, then Pillow on those that make the picture."""

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

from PIL import PngImagePlugin

from services.gateway.imaging.picture import (
    ImageLimits,
    Picture,
    animated,
    check_size,
    corrupt,
    truncated,
)
from services.gateway.imaging.pixels import from_pillow
from services.gateway.imaging.sniff import PNG_SIGNATURE, Format
from services.gateway.imaging.tags import UPRIGHT, exif_orientation

_NAME = "PNG"
_KEPT = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})
_GREY_TYPES = frozenset({0, 4})
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_ONE_PASS = ((0, 0, 1, 1),)
_ADAM7 = (
    (0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)
)  # fmt: skip
"""First column, first row, and the steps between them, of each interlace pass (PNG, section 8)."""

_UNPACK_BYTES = 1 << 18
_FRAMING_BYTES = 12
_HEADER_BYTES = 13
_ONE_FRAME = b"\0\0\0\1"
_MAX_CHUNKS = 65536
"""Encoders write a chunk for every few kilobytes: a file within the limits has far fewer."""


@dataclass(frozen=True, slots=True)
class _Header:
    width: int
    height: int
    depth: int
    colour_type: int
    compression: int
    filtering: int
    interlace: int

    def unpacked_bytes(self) -> int:
        """Bytes of all rows: a filter byte and the packed samples each, pass by pass."""
        bits = self.depth * _CHANNELS.get(self.colour_type, 1)
        total = 0
        for left, top, across, down in _ADAM7 if self.interlace else _ONE_PASS:
            columns = -(-(self.width - left) // across)
            rows = -(-(self.height - top) // down)
            if columns > 0 and rows > 0:
                total += rows * (1 + (columns * bits + 7) // 8)
        return total


@dataclass(slots=True)
class _Chunks:
    parts: list[bytes]
    packed: list[bytes]
    is_grey: bool = False
    orientation: int = UPRIGHT


def read(data: bytes, limits: ImageLimits) -> Picture:
    """Decode a PNG of any colour type and depth.

    Only the chunks that make the picture reach the decoder, so that compressed texts and colour
    profiles cannot unfold in memory. Their checksums must be right and the last chunk present.
    """
    chunks = _walk(data, limits)
    source = b"".join(chunks.parts)
    picture = from_pillow(
        lambda: PngImagePlugin.PngImageFile(io.BytesIO(source)),
        Format.PNG,
        limits,
        orientation=chunks.orientation,
    )
    # Grey with 16-bit alpha comes out of the decoder as RGBA; the header knows better.
    return replace(picture, had_colour=False) if chunks.is_grey else picture


def _walk(data: bytes, limits: ImageLimits) -> _Chunks:
    chunks = _Chunks([PNG_SIGNATURE], [])
    header: _Header | None = None
    for name, start, body, end in _framed(data):
        if name in _KEPT:
            chunks.parts.append(data[start:end])
        if name == b"IHDR":
            header = _Header(*struct.unpack_from(">IIBBBBB", data, body))
            check_size(header.width, header.height, _NAME, limits)
        elif name == b"acTL" and not chunks.packed and data[body : body + 4] != _ONE_FRAME:
            raise animated()
        elif name == b"eXIf":
            chunks.orientation = exif_orientation(data[body : end - 4])
        elif name == b"IDAT":
            chunks.packed.append(data[body : end - 4])
    if header is None:
        raise corrupt(_NAME)
    _check_rows(chunks.packed, header.unpacked_bytes())
    chunks.is_grey = header.colour_type in _GREY_TYPES
    return chunks


def _check_rows(packed: list[bytes], expected: int) -> None:
    """Refuse data that unpack to fewer bytes than the rows need; the decoder leaves those black."""
    unpacker = zlib.decompressobj()
    count = 0
    try:
        for part in packed:
            rest = part
            while rest and count < expected:
                count += len(unpacker.decompress(rest, _UNPACK_BYTES))
                rest = unpacker.unconsumed_tail
    except zlib.error as error:
        raise corrupt(_NAME) from error
    if count + len(unpacker.flush() if count < expected else b"") < expected:
        raise corrupt(_NAME)


def _framed(data: bytes) -> Iterator[tuple[bytes, int, int, int]]:
    """Name, start, start of the body and end of each chunk up to the last, all checked."""
    at = len(PNG_SIGNATURE)
    for number in range(_MAX_CHUNKS):
        if at + _FRAMING_BYTES > len(data):
            raise truncated(_NAME)
        length, name = struct.unpack_from(">I4s", data, at)
        end = at + _FRAMING_BYTES + length
        if (number == 0) != (name == b"IHDR") or not name.isalpha():
            raise corrupt(_NAME)
        if end > len(data):
            raise truncated(_NAME)
        if name in _KEPT:
            if zlib.crc32(data[at + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
                raise corrupt(_NAME)
        elif name[:1].isupper():
            # Unknown, and declared necessary by the writer.
            raise corrupt(_NAME)
        if name == b"IHDR" and length != _HEADER_BYTES:
            raise corrupt(_NAME)
        yield name, at, at + 8, end
        if name == b"IEND":
            return
        at = end
    raise corrupt(_NAME)
