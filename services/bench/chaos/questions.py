"""What is asked, and whether the answer is true: learned while nothing is wrong."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import simplejpeg

from services.bench.pictures import small_pairs
from services.demo_pictures import PAIRS

_SMALL_SIDE = 64  # pixels of a picture whose face is enhanced before it is compared
_QUALITY = 90


@dataclass(frozen=True)
class Person:
    """Somebody in the photographs; the pictures are JPEG files of 250 x 250 in base64.

    Attributes:
        id: of the subject.
        enrolled: what is enrolled.
        probe: what is asked about; another picture where there is one.
    """

    id: str
    enrolled: str = field(repr=False)
    probe: str = field(repr=False)


@dataclass
class Question:
    """A call whose answer is known.

    Attributes:
        path: of REST.
        body: JSON.
        same: for a verification, whether it is of one person.
        truth: what was answered while nothing was wrong.
    """

    path: str
    body: dict[str, Any] = field(repr=False)
    same: bool | None = None
    truth: tuple[str, ...] = ()

    def learn(self, answer: dict[str, Any]) -> None:
        """Takes an answer as the true one."""
        self.truth = self._gist(answer)

    def is_right(self, answer: dict[str, Any]) -> bool:
        """Whether an answer is as true as the one that was learned.

        A face that could not be enhanced, which the answer says, may be decided otherwise; two
        people are still never one.
        """
        gist = self._gist(answer)
        if self.same is None or gist[1:] == self.truth[1:]:
            return gist == self.truth
        return self.same or gist[0] != "same"

    def _gist(self, answer: dict[str, Any]) -> tuple[str, ...]:
        if self.same is None:
            face = answer["pictures"][0]["faces"][0]
            best = [one["subject_id"] for one in face["candidates"][:1]]
            return (face["decision"], *best)
        chosen = (answer["probe"], answer["results"][0]["reference"])
        done = [(one["enhancement"] or {"status": "none"})["status"] for one in chosen]
        return (answer["decision"], *done)


def people_of(home: Path) -> list[Person]:
    """The people of the demo's photographs.

    Raises:
        FetchError: the photographs cannot be downloaded.
    """
    pictures: dict[str, bytes] = {}
    for pair, (probe, reference) in zip(PAIRS, small_pairs(home), strict=True):
        pictures[pair.probe], pictures[pair.reference] = probe, reference
    same = next(one for one in PAIRS if one.same)
    other = next(one.reference for one in PAIRS if not one.same)
    coded = {name: base64.b64encode(data).decode() for name, data in pictures.items()}
    return [
        Person("a", coded[same.probe], coded[same.reference]),
        Person("b", coded[other], coded[other]),
    ]


def questions(people: list[Person]) -> dict[str, list[Question]]:
    """What is asked of them, by kind."""
    first, second = people[:2]
    pairs = [(first.probe, first.enrolled, True), (first.probe, second.enrolled, False)]
    return {
        "verify": [_verify(*pair) for pair in pairs],
        "verify small": [_verify(_small(one), other, same) for one, other, same in pairs],
        "identify": [Question("/v1/identify", {"pictures": [one.probe]}) for one in people],
    }


def _verify(probe: str, reference: str, same: bool) -> Question:
    return Question("/v1/verify", {"probe": probe, "reference": reference}, same)


def _small(picture: str) -> str:
    """A picture of so few pixels that its face is enhanced."""
    pixels = simplejpeg.decode_jpeg(base64.b64decode(picture), colorspace="RGB")
    scaled = cv2.resize(pixels, (_SMALL_SIDE, _SMALL_SIDE), interpolation=cv2.INTER_AREA)
    encoded = simplejpeg.encode_jpeg(np.ascontiguousarray(scaled), quality=_QUALITY)
    return base64.b64encode(encoded).decode()
