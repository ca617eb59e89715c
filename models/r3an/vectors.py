"""Vectors of two models for the same faces, and who of them is learned from and who judges."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pydantic import Field

from models.r3an.arrays import Bools, Floats, Ints, draw
from models.training.people import People, PeopleOptions

NOBODY = -1

KNOWN_AFTER_ALL = 0.5
"""Nameless faces with a higher cosine to a face of a held-out person may show that person.

Sets of faces without names overlap with those with names. Such a face must neither be learned from
nor stand as a distractor, where it would beat the mate.
"""

BLOCK = 1024


class SplitOptions(PeopleOptions):
    """Who is held out of a map's fit."""

    holdout_nameless: float = Field(
        0.1, ge=0, lt=1, description="share of faces without a person held out as distractors"
    )


@dataclass(frozen=True)
class Pairs:
    """The same N faces seen by two models in V views.

    Attributes:
        source: (N,V,d_S) unit vectors; view 0 the crop, 1 its mirror image, then changed views.
        target: (N,V,d_T), likewise.
        person: (N,) number of each face's person, -1 where unknown or not trusted.
        yaw: (N,) degrees; NaN when unknown.
        train: rows that maps learn from; nobody in them is held out.
        calibration: rows of one half of the held-out people: choices and thresholds.
        test: rows of the other half: what is reported.
        distractors: held-out rows without a person.
        blends: (T,B,d_S) and (T,B,d_T), likewise of faces blended from each training row's and
            another's; None without.
    """

    source: Floats
    target: Floats
    person: Ints
    yaw: Floats
    train: Ints
    calibration: Ints
    test: Ints
    distractors: Ints
    blends: tuple[Floats, Floats] | None = None

    @property
    def dimensions(self) -> tuple[int, int]:
        """Of source and target."""
        return self.source.shape[2], self.target.shape[2]

    def learned(self) -> tuple[Floats, Floats, Ints]:
        """All views of the training rows, then all blends: (M,d_S), (M,d_T), and whom each shows.

        A face without a person is somebody of its own, in all its views; so is every blend.
        """
        rows, views = self.train, self.source.shape[1]
        own = len(self.person) + rows
        who = np.repeat(np.where(self.person[rows] == NOBODY, own, self.person[rows]), views)
        sides = self.source[rows], self.target[rows]
        source, target = (side.reshape(-1, side.shape[2]) for side in sides)
        if self.blends is None:
            return source, target, who
        more, others = (side.reshape(-1, side.shape[2]) for side in self.blends)
        strangers = 2 * len(self.person) + np.arange(len(more))
        return (
            np.concatenate([source, more]),
            np.concatenate([target, others]),
            np.concatenate([who, strangers]),
        )

    def facts(self) -> dict[str, int]:
        """For the record of a run."""
        return {
            "training_faces": len(self.train),
            "views": self.source.shape[1],
            "blends": 0 if self.blends is None else self.blends[0].shape[1],
            "calibration_faces": len(self.calibration),
            "calibration_people": len(set(self.person[self.calibration].tolist())),
            "test_faces": len(self.test),
            "test_people": len(set(self.person[self.test].tolist())),
            "distractors": len(self.distractors),
        }


@dataclass(frozen=True)
class Sides:
    """Who is on which side of a fit; the arrays are those of `Pairs`."""

    person: Ints
    train: Ints
    calibration: Ints
    test: Ints
    distractors: Ints


def sides_of(people: People, options: SplitOptions) -> Sides:
    """Splits faces by people, by the names alone: the same held-out people as in every training.

    Args:
        people: faces, labels that can be trusted, who is held out.
        options: share of nameless faces held out.
    """
    faces, split = people.faces, people.split
    names, person = np.unique(np.array(faces.people), return_inverse=True)
    person = np.where(names[person] == "", NOBODY, person).astype(np.int64)
    if people.doubtful is not None:
        person[people.doubtful] = NOBODY
    half = np.array([draw(name, "half") < 0.5 for name in names])
    held = split.validation[person[split.validation] != NOBODY]
    first = half[person[held]]
    nameless = np.array([not name for name in faces.people])
    aside = np.array(
        [
            bare and draw(path, "nameless") < options.holdout_nameless
            for bare, path in zip(nameless, faces.paths, strict=True)
        ]
    )
    known = np.zeros(len(faces), dtype=np.bool_)
    if people.clean is not None:
        known = nameless & resembling(people.clean.numpy(), held)
    aside &= ~known
    return Sides(
        person,
        split.train[~(aside | known)[split.train]],
        held[first],
        held[~first],
        np.flatnonzero(aside),
    )


def pair_up(
    people: People,
    sides: Sides,
    source: Floats,
    target: Floats,
    blends: tuple[Floats, Floats] | None = None,
) -> Pairs:
    """Puts the vectors of two models to the sides of a fit.

    Args:
        people: the faces.
        sides: who is where.
        source: (N,V,d_S).
        target: (N,V,d_T).
        blends: as in `Pairs`.
    """
    return Pairs(
        source,
        target,
        sides.person,
        people.faces.euler[:, 1],
        sides.train,
        sides.calibration,
        sides.test,
        sides.distractors,
        blends,
    )


def resembling(clean: Floats, held: Ints, above: float = KNOWN_AFTER_ALL) -> Bools:
    """(N,) which of (N,d) unit vectors have a higher cosine than `above` to one of rows `held`."""
    others = clean[held].T
    return np.concatenate(
        [
            (clean[start : start + BLOCK] @ others).max(axis=1, initial=-1.0) > above
            for start in range(0, len(clean), BLOCK)
        ]
    )
