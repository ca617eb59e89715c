"""Simulated low resolution: a picture scaled down before Mien sees it.

In a list of pairs a shrunk picture goes by a name of its own: the path and the side, with a
character between them that no file name can hold. The same file may so be used at its own size too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np

from services.evaluation.pairs import Pair

_BETWEEN = "\0"


def with_shrunk_probes(pairs: Sequence[Pair], side: int) -> list[Pair]:
    """The pairs with the first picture of each scaled down.

    Args:
        pairs: to be changed.
        side: pixels that the longer side then has.
    """
    return [replace(pair, path1=f"{pair.path1}{_BETWEEN}{side}") for pair in pairs]


def split_name(name: str) -> tuple[str, int]:
    """Path and side of a picture's name; the side is 0 for one that is not shrunk."""
    path, _, side = name.partition(_BETWEEN)
    return path, int(side or 0)


def shrink(data: bytes, side: int) -> bytes:
    """A picture file with a longer side of ``side`` pixels, scaled by area, as PNG.

    What is no picture, or is small enough, stays as it is.
    """
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    if picture is None or max(picture.shape[:2]) <= side:
        return data
    scale = side / max(picture.shape[:2])
    size = [max(1, round(length * scale)) for length in picture.shape[1::-1]]
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    return bytes(cv2.imencode(".png", small)[1])
