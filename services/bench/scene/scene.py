"""A clip: people walk, pause, are hidden for a while and leave, with the truth of each frame."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

import cv2
import numpy as np
from numpy.typing import NDArray

from services.bench.scene.backdrop import (
    background,
    noise_sheet,
    passing,
    pillar,
    sensed,
    without_colour,
)
from services.bench.scene.cutouts import Actor, Box, Cutout, Pixels
from services.bench.scene.walk import Place, Walk

_EXPOSURE = 1 / 60  # seconds; how long motion smears
_LAST_ENTRANCE = 0.3  # of the clip
_SOLID = 0.5  # opacity from which a head hides what is behind it
_NOBODY = -1


class Light(StrEnum):
    """How a scene is lit."""

    DAY = "day"
    LOW = "low"
    NIGHT = "night"


_GAINS = {Light.DAY: 1.0, Light.LOW: 0.4, Light.NIGHT: 0.7}
_NOISE = {Light.DAY: 2.0, Light.LOW: 6.0, Light.NIGHT: 5.0}


@dataclass(frozen=True)
class SceneOptions:
    """What a clip is like.

    Attributes:
        width: pixels.
        height: pixels.
        fps: frames per second.
        seconds: of the clip.
        head: least and greatest height of a face, pixels.
        speeds: of walkers, see `Walk`.
        light: day, low light, or a camera's grey night picture.
        defocus: sigma of the blur of all heads, pixels.
        pillars: that stand in front of everybody.
        passers: things that pass in front of everybody.
        pose_seconds: least and greatest time after which a person shows another picture.
    """

    width: int = 640
    height: int = 480
    fps: float = 5.0
    seconds: float = 12.0
    head: tuple[float, float] = (30.0, 120.0)
    speeds: tuple[float, float] = (1.0, 2.0)
    light: Light = Light.DAY
    defocus: float = 0.0
    pillars: int = 1
    passers: int = 1
    pose_seconds: tuple[float, float] = (1.2, 2.5)


@dataclass(frozen=True)
class Seen:
    """The truth of one face in one frame.

    Attributes:
        person: key of the person.
        box: of the face, pixels; it may reach beyond the frame.
        visible: share of the face that is in the frame and not hidden, 0 to 1.
        eyes: pixels between the eyes.
        picture: which of the person's pictures is shown.
    """

    person: str
    box: Box
    visible: float
    eyes: float
    picture: int


@dataclass(frozen=True)
class SceneFrame:
    """A frame: its time in seconds from the start, height x width x 3 BGR, and who is in it."""

    seconds: float
    pixels: Pixels
    people: tuple[Seen, ...]


class Scene:
    """The same seed, options and actors make the same clip.

    Args:
        actors: who walks through, each once.
        options: what it is like.
        seed: of all choices.
    """

    def __init__(self, actors: Sequence[Actor], options: SceneOptions, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self._options, self._actors, self._seed = options, tuple(actors), seed
        width, height = options.width, options.height
        self._background = background(rng, width, height)
        self._noise = noise_sheet(rng, width, height, _NOISE[options.light])
        self._walks = [self._walk(rng) for _ in actors]
        self._turns = [self._pose_turns(rng) for _ in actors]
        self._occluders = [pillar(rng, width) for _ in range(options.pillars)]
        self._occluders += [passing(rng, width, options.seconds) for _ in range(options.passers)]

    def frames(self) -> Iterator[SceneFrame]:
        """The frames from the start; the same each time."""
        rng = np.random.default_rng(self._seed + 1)
        for number in range(round(self._options.seconds * self._options.fps)):
            yield self._frame(number / self._options.fps, rng)

    def _walk(self, rng: np.random.Generator) -> Walk:
        own = self._options
        enters = rng.uniform(0, _LAST_ENTRANCE * own.seconds)
        return Walk(rng, own.width, own.height, own.head, enters, own.speeds)

    def _pose_turns(self, rng: np.random.Generator) -> NDArray[np.float64]:
        low, high = self._options.pose_seconds
        count = math.ceil(self._options.seconds / low) + 1
        return np.cumsum(rng.uniform(low, high, count))

    def _frame(self, seconds: float, rng: np.random.Generator) -> SceneFrame:
        options = self._options
        picture = self._background.copy()
        owner = np.full(picture.shape[:2], _NOBODY, np.int16)
        pasted: dict[int, _Pasted] = {}
        places = [(walk.at(seconds), number) for number, walk in enumerate(self._walks)]
        there = [(place, number) for place, number in places if place is not None]
        for place, number in sorted(there, key=lambda one: one[0].height):  # near ones last
            pasted[number] = self._paste(picture, owner, place, number, seconds)
        for thing in self._occluders:
            columns = thing.columns(seconds, options.width)
            picture[:, columns] = thing.colour
            owner[:, columns] = _NOBODY
        if options.light is Light.NIGHT:
            picture = without_colour(picture)
        picture = sensed(rng, picture, _GAINS[options.light], self._noise)
        people = tuple(pasted[number].seen(owner, number) for number in sorted(pasted))
        return SceneFrame(seconds, picture, people)

    def _paste(
        self, picture: Pixels, owner: NDArray[np.int16], place: Place, number: int, seconds: float
    ) -> _Pasted:
        actor = self._actors[number]
        turn = int(np.searchsorted(self._turns[number], seconds)) % len(actor.cutouts)
        head = self._blurred(actor.cutouts[turn].scaled(place.height), number, place, seconds)
        x, y, w, h = head.box
        left, top = round(place.x - x - w / 2), round(place.y - y - h / 2)
        rows, columns = head.alpha.shape
        onto = (slice(max(top, 0), max(top + rows, 0)), slice(max(left, 0), max(left + columns, 0)))
        target = picture[onto]
        down, across = target.shape[:2]
        up, beside = max(-top, 0), max(-left, 0)
        part = (slice(up, up + down), slice(beside, beside + across))
        alpha = head.alpha[part][:, :, None]
        target[:] = (alpha * head.pixels[part] + (1 - alpha) * target + 0.5).astype(np.uint8)
        owner[onto][head.alpha[part] > _SOLID] = number
        solid = head.alpha > _SOLID
        inside = np.zeros_like(solid)
        inside[round(y) : round(y + h), round(x) : round(x + w)] = True
        seen = Seen(actor.person, (left + x, top + y, w, h), 0.0, head.eyes, turn)
        return _Pasted(seen, onto, (solid & inside)[part], int((solid & inside).sum()))

    def _blurred(self, head: Cutout, number: int, place: Place, seconds: float) -> Cutout:
        """Out of focus, and smeared by its own motion."""
        later = self._walks[number].at(seconds + _EXPOSURE)
        pixels = head.pixels
        if later is not None:
            length = round(math.hypot(later.x - place.x, later.y - place.y))
            if length > 1:
                pixels = cv2.blur(pixels, (length, 1))
        if self._options.defocus > 0:
            pixels = cv2.GaussianBlur(pixels, (0, 0), self._options.defocus)
        return Cutout(pixels, head.alpha, head.box, head.eyes)


@dataclass(frozen=True)
class _Pasted:
    """A head in the picture, before it is known what hides it."""

    truth: Seen
    onto: tuple[slice, slice]
    face: NDArray[np.bool_]
    pixels: int

    def seen(self, owner: NDArray[np.int16], number: int) -> Seen:
        shown = int((self.face & (owner[self.onto] == number)).sum())
        truth = self.truth
        share = shown / self.pixels if self.pixels else 0.0
        return Seen(truth.person, truth.box, share, truth.eyes, truth.picture)
