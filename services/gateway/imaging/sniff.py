"""Tell a picture format from its first bytes, never from a name or a declared type."""

from enum import StrEnum


class Format(StrEnum):
    """The formats that are read."""

    JPEG = "jpeg"
    PNG = "png"
    WEBP = "webp"
    BMP = "bmp"
    TIFF = "tiff"
    HEIC = "heic"


PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

_PREFIXES = (
    (b"\xff\xd8\xff", Format.JPEG),
    (PNG_SIGNATURE, Format.PNG),
    (b"II*\0", Format.TIFF),
    (b"MM\0*", Format.TIFF),
    (b"BM", Format.BMP),
)

HEIC_STILL = frozenset({b"heic", b"heix", b"heim", b"heis"})
"""Brands of ISO/IEC 23008-12 for one HEVC-coded still picture."""

HEIC_SEQUENCE = frozenset({b"hevc", b"hevx", b"hevm", b"hevs", b"msf1"})
"""Brands of ISO/IEC 23008-12 for picture sequences."""

_HEIF_GENERAL = b"mif1"


def sniff(data: bytes) -> Format | None:
    """The format of a file, or None when it is none that is read."""
    for prefix, kind in _PREFIXES:
        if data.startswith(prefix):
            return kind
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return Format.WEBP
    if data[4:8] == b"ftyp":
        major, compatible = brands(data)
        # AVIF shares the container and the general brand; only the codec's brand tells them apart.
        is_general = major == _HEIF_GENERAL and bool(compatible & HEIC_STILL)
        if major in HEIC_STILL or major in HEIC_SEQUENCE or is_general:
            return Format.HEIC
    return None


def brands(data: bytes) -> tuple[bytes, frozenset[bytes]]:
    """Major and compatible brands of the ``ftyp`` box that opens an ISO media file."""
    end = min(int.from_bytes(data[:4], "big"), len(data), _LONGEST_FTYP)
    return data[8:12], frozenset(data[at : at + 4] for at in range(16, end - 3, 4))


_LONGEST_FTYP = 256
"""Bytes of ``ftyp`` that are looked at: room for sixty brands, where real files have under ten."""
