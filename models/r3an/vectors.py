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
    """

    source: Floats
    target: Floats
    person: Ints
    yaw: Floats
    train: Ints
    calibration: Ints
    test: Ints
    distractors: Ints

    @property
    def dimensions(self) -> tuple[int, int]:
        """Of source and target."""
        return self.source.shape[2], self.target.shape[2]

    def learned(self) -> tuple[Floats, Floats, Ints]:
        """All views of the training rows: (T*V,d_S), (T*V,d_T), and whom each shows (T*V,).

        A face without a person is somebody of its own, in all its views.
        """
        rows, views = self.train, self.source.shape[1]
        own = len(self.person) + rows
        who = np.where(self.person[rows] == NOBODY, own, self.person[rows])
        return (
            self.source[rows].reshape(-1, self.source.shape[2]),
            self.target[rows].reshape(-1, self.target.shape[2]),
            np.repeat(who, views),
        )

    def facts(self) -> dict[str, int]:
        """For the record of a run."""
        return {
            "training_faces": len(self.train),
            "views": self.source.shape[1],
            "calibration_faces": len(self.calibration),
            "calibration_people": len(set(self.person[self.calibration].tolist())),
            "test_faces": len(self.test),
            "test_people": len(set(self.person[self.test].tolist())),
            "distractors": len(self.distractors),
        }


def pair_up(people: People, source: Floats, target: Floats, options: SplitOptions) -> Pairs:
    """Splits faces by people, by the names alone: the same held-out people as in every training.

    Args:
        people: faces, labels that can be trusted, who is held out.
        source: (N,V,d_S).
        target: (N,V,d_T).
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
    return Pairs(
        source,
        target,
        person,
        faces.euler[:, 1],
        split.train[~(aside | known)[split.train]],
        held[first],
        held[~first],
        np.flatnonzero(aside),
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
