"""One door for all formats: limits first, then the format's own reader."""

from collections.abc import Callable, Mapping

from services.gateway.imaging import bmp, heic, jpeg, png, tiff, webp
from services.gateway.imaging.picture import ImageLimits, Picture, check_bytes, unsupported
from services.gateway.imaging.sniff import Format, sniff

_READERS: Mapping[Format, Callable[[bytes, ImageLimits], Picture]] = {
    Format.JPEG: jpeg.read,
    Format.PNG: png.read,
    Format.WEBP: webp.read,
    Format.BMP: bmp.read,
    Format.TIFF: tiff.read,
    Format.HEIC: heic.read,
}


def decode(data: bytes, limits: ImageLimits) -> Picture:
    """Decode one still picture, upright, in RGB.

    The format is told from the bytes alone. The size is checked in the header before any pixel
    is decoded. Transparency is laid on white. Colour profiles are not applied. Thread-safe.

    Args:
        data: the whole file.
        limits: how many bytes and pixels it may have.

    Raises:
        ImageError: the file is refused; ``kind`` and ``detail`` say why.
    """
    check_bytes(len(data), limits)
    kind = sniff(data)
    if kind is None:
        raise unsupported("This kind of file")
    return _READERS[kind](data, limits)
