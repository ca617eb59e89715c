"""HEIC: our own walk over the boxes, then libheif."""

from collections.abc import Iterator

import pillow_heif
from PIL import Image

from services.gateway.imaging.picture import (
    ImageLimits,
    Picture,
    animated,
    check_size,
    corrupt,
    truncated,
)
from services.gateway.imaging.pixels import DECODER_ERRORS, from_pillow
from services.gateway.imaging.sniff import HEIC_SEQUENCE, Format, brands
from services.gateway.imaging.tags import UPRIGHT

_NAME = "HEIC"
_MAX_BOXES = 1024
_FILM = b"moov"


def read(data: bytes, limits: ImageLimits) -> Picture:
    """Decode a HEIC with one picture.

    The container's own turn and mirroring are applied by the decoder; the EXIF orientation is a
    copy of them (ISO/IEC 23008-12) and must not be applied again.
    """
    names = set()
    for number, name in enumerate(_boxes(data)):
        if number >= _MAX_BOXES:
            raise corrupt(_NAME)
        names.add(name)
    if brands(data)[0] in HEIC_SEQUENCE or _FILM in names:
        raise animated()
    try:
        container = pillow_heif.open_heif(data)
        count = len(container)
        width, height = container.size
    except DECODER_ERRORS as error:
        raise corrupt(_NAME) from error
    if count != 1:
        raise animated()
    check_size(width, height, _NAME, limits)

    def open_image() -> Image.Image:
        coded = container.data
        return Image.frombytes(container.mode, container.size, bytes(coded))

    return from_pillow(open_image, Format.HEIC, limits, orientation=UPRIGHT)


def _boxes(data: bytes) -> Iterator[bytes]:
    """Names of the boxes at the top level; a box that runs out of the file is an error."""
    at = 0
    while at < len(data):
        if at + 8 > len(data):
            raise truncated(_NAME)
        size = int.from_bytes(data[at : at + 4], "big")
        name = data[at + 4 : at + 8]
        header = 8
        if size == 1:
            size = int.from_bytes(data[at + 8 : at + 16], "big")
            header = 16
        elif size == 0:
            size = len(data) - at
        if size < header:
            raise corrupt(_NAME)
        if at + size > len(data):
            raise truncated(_NAME)
        yield name
        at += size
