"""The clips that `mien bench cameras` plays: half of their people are to be enrolled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import simplejpeg

from services.bench.scene import (
    Actor,
    Light,
    Person,
    Scene,
    SceneOptions,
    Seen,
    cut_out,
)
from services.gateway.detection import FaceDetector

_LIGHTS = (Light.DAY, Light.DAY, Light.DAY, Light.LOW, Light.NIGHT)
_DEFOCUS = 1.2  # greatest sigma, pixels
_QUALITY = 80  # JPEG, as cameras send
_PICTURES = 6  # of a person, at most


@dataclass(frozen=True)
class ClipFrame:
    """A JPEG file, its time in seconds from the start of the clip, and the truth."""

    jpeg: bytes
    seconds: float
    people: tuple[Seen, ...]


@dataclass(frozen=True)
class Clip:
    """A clip, and who of its people is enrolled, by key."""

    frames: tuple[ClipFrame, ...]
    enrolled: frozenset[str]
    fps: float

    @property
    def people(self) -> set[str]:
        """Everybody who is seen."""
        return {one.person for frame in self.frames for one in frame.people}


def divided(people: Sequence[Person]) -> tuple[list[Person], list[Person]]:
    """People to be enrolled and strangers, as many of each.

    Only who has a second picture can be enrolled: the enrolled one is never shown.
    """
    able = [person for person in people if len(person.pictures) > 1]
    enrolled = able[::2] if len(able) > 1 else able
    keys = {person.key for person in enrolled}
    strangers = [person for person in people if person.key not in keys]
    return enrolled, strangers[: max(len(enrolled), 1)]


def make_clips(
    enrolled: Sequence[Person],
    strangers: Sequence[Person],
    count: int,
    detector: FaceDetector,
    options: SceneOptions,
    seed: int,
) -> list[Clip]:
    """Clips with one enrolled person and one stranger each, in turns.

    Three of five are in daylight, one in low light, one without colours; some are out of focus.

    Args:
        enrolled: their pictures but the first are shown.
        strangers: all their pictures are shown.
        count: of clips.
        detector: finds the faces in the pictures.
        options: of all clips, but for light and focus.
        seed: of all choices.

    Raises:
        ValueError: no face is found in the pictures of a person.
    """
    actors: dict[str, Actor] = {}

    def actor(person: Person) -> Actor:
        if person.key not in actors:
            cutouts = cut_out(person.shown[:_PICTURES], detector)
            if not cutouts:
                raise ValueError(f"no face is found in the pictures of person {person.key}")
            actors[person.key] = Actor(person.key, cutouts)
        return actors[person.key]

    rng = np.random.default_rng(seed)
    made = []
    for number in range(count):
        cast = [group[number % len(group)] for group in (enrolled, strangers) if group]
        own = replace(
            options, light=_LIGHTS[number % len(_LIGHTS)], defocus=rng.uniform(0, _DEFOCUS)
        )
        scene = Scene([actor(person) for person in cast], own, seed + number)
        frames = tuple(
            ClipFrame(_jpeg(frame.pixels), frame.seconds, frame.people) for frame in scene.frames()
        )
        keys = frozenset(person.key for person in cast if person in enrolled)
        made.append(Clip(frames, keys, own.fps))
    return made


def _jpeg(pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> bytes:
    data: bytes = simplejpeg.encode_jpeg(
        np.ascontiguousarray(pixels), quality=_QUALITY, colorspace="BGR"
    )
    return data
