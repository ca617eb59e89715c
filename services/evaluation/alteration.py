"""Simulated faults of a picture, applied before Mien sees it: few pixels, near infrared, grey.

In a list of pairs an altered picture goes by a name of its own: the path and the alteration, with a
character between them that no file name can hold. The same file may so be used as it is too.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import cv2
import numpy as np

from models.nir_cyclegan.simulated import FORMULA_WIDTH, formula, grey
from services.evaluation.pairs import Pair

_BETWEEN = "\0"

_FACE_SHARE = 0.5
"""Of a picture's shorter side: what an aligned crop spans of a photograph of one face, near enough
for the widths of blur and light (of LFW's, about half)."""

_FLAT_WIDTH = 0.06
"""Of the window that evens the light, in crops."""


class Light(StrEnum):
    """What light a picture is turned to."""

    AS_IT_IS = "as-it-is"
    NEAR_INFRARED = "near-infrared"
    """Simulated by a formula on which nothing was trained."""
    FLAT_NEAR_INFRARED = "flat-near-infrared"
    """The same with light so even that little of a face's own shading is left: much harder."""
    GREY = "grey"


@dataclass(frozen=True)
class Alteration:
    """What is done to a picture.

    Attributes:
        side: pixels that its longer side then has; 0 leaves it.
        light: what it is turned to, before it is scaled.
    """

    side: int = 0
    light: Light = Light.AS_IT_IS

    def __bool__(self) -> bool:
        return bool(self.side) or self.light is not Light.AS_IT_IS

    def flags(self) -> str:
        """As options of a command, each behind a space."""
        light = "" if self.light is Light.AS_IT_IS else f" --probe-light {self.light}"
        return light + (f" --probe-side {self.side}" if self.side else "")

    def named(self, path: str) -> str:
        """The name that an altered picture goes by."""
        return f"{path}{_BETWEEN}{self.light}{_BETWEEN}{self.side}" if self else path

    def apply(self, data: bytes) -> bytes:
        """A picture file, altered, as PNG; what is no picture stays as it is."""
        if self.light is not Light.AS_IT_IS:
            data = relight(data, self.light)
        return shrink(data, self.side) if self.side else data


def with_altered_probes(pairs: Sequence[Pair], alteration: Alteration) -> list[Pair]:
    """The pairs with the first picture of each altered."""
    return [replace(pair, path1=alteration.named(pair.path1)) for pair in pairs]


def split_name(name: str) -> tuple[str, Alteration]:
    """Path and alteration of a picture's name."""
    if _BETWEEN not in name:
        return name, Alteration()
    path, light, side = name.split(_BETWEEN)
    return path, Alteration(int(side), Light(light))


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


def relight(data: bytes, light: Light) -> bytes:
    """A picture file without its colours, as PNG, the same at every call.

    What is no picture stays as it is.
    """
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    if picture is None or light is Light.AS_IT_IS:
        return data
    chance = np.random.default_rng(zlib.crc32(data))
    colours = np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), dtype=np.uint8)
    if light is Light.GREY:
        turned = grey(colours, chance)
    else:
        side = max(1.0, _FACE_SHARE * min(picture.shape[:2]))
        width = _FLAT_WIDTH if light is Light.FLAT_NEAR_INFRARED else FORMULA_WIDTH
        turned = formula(colours, chance, side, width)
    return bytes(cv2.imencode(".png", turned)[1])
