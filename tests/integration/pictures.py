"""Pictures that tests make out of the demo's photographs."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image

from tests.hostile import encoded, gradient

_HEIGHT = 480


def portrait(folder: Path, name: str, height: int = _HEIGHT) -> Image.Image:
    """A photograph, cut to its upper square part and scaled."""
    with Image.open(folder / name) as opened:
        side = min(opened.size)
        left = (opened.width - side) // 2
        cut = opened.convert("RGB").crop((left, 0, left + side, side))
    return cut.resize((height, height))


def jpeg(image: Image.Image) -> bytes:
    """As a JPEG file."""
    out = io.BytesIO()
    image.save(out, "JPEG", quality=92)
    return out.getvalue()


def side_by_side(*images: Image.Image) -> Image.Image:
    """One picture that shows them from left to right, on grey."""
    width, height = sum(image.width for image in images), max(image.height for image in images)
    joined = Image.new("RGB", (width, height), (127, 127, 127))
    left = 0
    for image in images:
        joined.paste(image, (left, (height - image.height) // 2))
        left += image.width
    return joined


def faceless() -> bytes:
    """A picture file without a face."""
    return encoded(gradient(320, 240), "JPEG")
