"""Whose pictures are moved, and which of them is enrolled."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from services.demo_pictures import PAIRS, pull_pictures

_SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})


@dataclass(frozen=True)
class Person:
    """Pictures of one person.

    Attributes:
        key: a number for the name, which stays in the folder: "p0001".
        pictures: files, in the order of their names.
    """

    key: str
    pictures: tuple[Path, ...]

    @property
    def enrolled(self) -> Path:
        """The picture that is enrolled."""
        return self.pictures[0]

    @property
    def shown(self) -> tuple[Path, ...]:
        """The pictures that are moved: never the enrolled one, unless there is no other."""
        return self.pictures[1:] or self.pictures


def people_of(folder: Path) -> list[Person]:
    """The people of a folder `PERSON/*.jpg`, those with most pictures first.

    Raises:
        ValueError: there are no pictures.
    """
    found = []
    for place in sorted(one for one in folder.iterdir() if one.is_dir()):
        pictures = sorted(one for one in place.iterdir() if one.suffix.lower() in _SUFFIXES)
        if pictures:
            found.append(tuple(pictures))
    if not found:
        raise ValueError(f"{folder} holds no folders with pictures")
    found.sort(key=len, reverse=True)  # stable: names decide among equals
    return [Person(f"p{number:04}", pictures) for number, pictures in enumerate(found)]


def demo_people(home: Path) -> list[Person]:
    """The people of the demo's photographs: one with two pictures, one with one.

    Raises:
        FetchError: the photographs cannot be downloaded.
    """
    folder = pull_pictures(home)
    (same,) = (pair for pair in PAIRS if pair.same)
    other = next(pair.reference for pair in PAIRS if not pair.same)
    pictures = [(folder / same.probe, folder / same.reference), (folder / other,)]
    return [Person(f"p{number:04}", files) for number, files in enumerate(pictures)]
