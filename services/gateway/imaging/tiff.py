"""TIFF: our own reading of the directories, then Pillow on a file with only the needed fields."""

import io
import struct

from PIL import TiffImagePlugin

from services.gateway.imaging.picture import (
    ImageLimits,
    Picture,
    animated,
    check_size,
    corrupt,
    truncated,
    unsupported,
)
from services.gateway.imaging.pixels import from_pillow
from services.gateway.imaging.sniff import Format
from services.gateway.imaging.tags import (
    Directory,
    byte_order,
    first_directory,
    integers,
    orientation_of,
    read_directory,
)

_NAME = "TIFF"

# Fields of TIFF 6.0 by their numbers.
_SUBFILE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 254, 256, 257, 258, 259, 262
_STRIPS, _STRIP_BYTES, _TILE_WIDTH, _TILE_HEIGHT, _TILES, _TILE_BYTES = 273, 279, 322, 323, 324, 325
_SAMPLES, _SAMPLE_FORMAT = 277, 339
_KEPT = frozenset(
    {
        _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _STRIPS, _STRIP_BYTES,
        _TILE_WIDTH, _TILE_HEIGHT, _TILES, _TILE_BYTES, _SAMPLES, _SAMPLE_FORMAT,
        266,  # FillOrder
        278,  # RowsPerStrip
        284,  # PlanarConfiguration
        317,  # Predictor
        320,  # ColorMap
        338,  # ExtraSamples
        347,  # JPEGTables
        529, 530, 531, 532,  # YCbCr coefficients, subsampling, positioning; reference black, white
    }
)  # fmt: skip

_COMPRESSIONS = frozenset({1, 5, 7, 8, 32773, 32946})
"""None, LZW, JPEG, Deflate, PackBits, and Deflate by its old number."""

_DEPTHS = frozenset({1, 2, 4, 8, 12, 16})
_UNSIGNED = 1
_SIGNED = 2
_WHITE_IS_ZERO = 0
_REDUCED = 1
_MAX_SAMPLES = 6
_MAX_PIECES = 65536
_MAX_DIRECTORIES = 16
_MAX_TILE_PIXELS = 16 * 1024 * 1024


def read(data: bytes, limits: ImageLimits) -> Picture:
    """Decode a TIFF with one picture of 1 to 16 unsigned bits a sample.

    Further directories are accepted only where they are reduced copies (thumbnails).
    """
    order = byte_order(data)
    if order is None:
        raise corrupt(_NAME)
    directory = read_directory(data, first_directory(data, order), order)
    if directory is None:
        raise truncated(_NAME) if first_directory(data, order) >= 8 else corrupt(_NAME)
    fields = _Fields(data, directory, order)
    check_size(fields.number(_WIDTH), fields.number(_HEIGHT), _NAME, limits)
    if fields.number(_SUBFILE) & _REDUCED:
        # Raw files of cameras open with a thumbnail and hide the picture behind it.
        raise unsupported("A camera's raw file")
    _check_single(data, directory.following, order)
    fields.check_samples()
    fields.check_layout()
    source = _reduced(data, directory, order)
    depth = fields.number(_BITS, 1)
    picture = from_pillow(
        lambda: TiffImagePlugin.TiffImageFile(io.BytesIO(source)),
        Format.TIFF,
        limits,
        orientation=orientation_of(data, directory, order),
        white_level=(1 << max(depth, 8)) - 1,
    )
    if depth > 8 and fields.number(_PHOTOMETRIC, 1) == _WHITE_IS_ZERO:
        # The decoder turns such pictures round for 8 bits and less only.
        pixels = picture.pixels
        pixels ^= 0xFF
    return picture


class _Fields:
    """Typed access to the first directory."""

    def __init__(self, data: bytes, directory: Directory, order: str) -> None:
        self._data = data
        self._entries = directory.entries
        self._order = order
        if any(
            entry.start + entry.size > len(data)
            for tag, entry in directory.entries.items()
            if tag in _KEPT
        ):
            raise truncated(_NAME)
        # Many fields that all claim the same megabytes would each be read into memory.
        if directory.value_bytes > len(data) or self.number(_SAMPLES, 1) > _MAX_SAMPLES:
            raise corrupt(_NAME)

    def numbers(self, tag: int, most: int = 16) -> tuple[int, ...]:
        return integers(self._data, self._entries.get(tag), self._order, most)

    def number(self, tag: int, default: int = 0) -> int:
        return next(iter(self.numbers(tag)), default)

    def check_samples(self) -> None:
        """Refuse codings and sample types that are not read."""
        if self.number(_COMPRESSION, 1) not in _COMPRESSIONS:
            raise unsupported("A TIFF with this compression")
        depths = set(self.numbers(_BITS)) or {1}
        formats = set(self.numbers(_SAMPLE_FORMAT)) or {_UNSIGNED}
        signed_bytes = formats == {_SIGNED} and depths == {8}
        if not depths <= _DEPTHS or not (formats == {_UNSIGNED} or signed_bytes):
            raise unsupported("A TIFF with this type of pixel")

    def check_layout(self) -> None:
        """Refuse strips and tiles that are too many, too large, or outside the file."""
        tiled = _TILES in self._entries
        where, sizes = (_TILES, _TILE_BYTES) if tiled else (_STRIPS, _STRIP_BYTES)
        tile_pixels = self.number(_TILE_WIDTH) * self.number(_TILE_HEIGHT)
        if tile_pixels > _MAX_TILE_PIXELS or (tiled and tile_pixels == 0):
            raise corrupt(_NAME)
        starts = self.numbers(where, _MAX_PIECES)
        lengths = self.numbers(sizes, _MAX_PIECES)
        if not starts or len(starts) != len(lengths):
            raise corrupt(_NAME)
        if any(a + n > len(self._data) for a, n in zip(starts, lengths, strict=True)):
            raise truncated(_NAME)


def _check_single(data: bytes, offset: int, order: str) -> None:
    for _ in range(_MAX_DIRECTORIES):
        if offset == 0:
            return
        directory = read_directory(data, offset, order)
        if directory is None:
            raise truncated(_NAME) if offset >= 8 else corrupt(_NAME)
        kind = integers(data, directory.entries.get(_SUBFILE), order)
        if not kind or not kind[0] & _REDUCED:
            raise animated()
        offset = directory.following
    raise corrupt(_NAME)


def _reduced(data: bytes, directory: Directory, order: str) -> bytes:
    """The same file with one directory that has only the fields that make the picture.

    So the decoder meets no orientation (applied by us), no EXIF, no profile and no further page.
    """
    kept = [entry.raw for tag, entry in sorted(directory.entries.items()) if tag in _KEPT]
    start = len(data) + len(data) % 2
    return b"".join(
        (
            data[:4],
            struct.pack(order + "I", start),
            data[8:],
            bytes(start - len(data)),
            struct.pack(order + "H", len(kept)),
            *kept,
            bytes(4),
        )
    )
