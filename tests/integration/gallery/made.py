"""Spaces and vectors that tests make."""

import hashlib

import numpy as np

from services.gallery import Enrolment, NewTemplate, Space, Template
from services.gallery.values import Metric, Vector

DIMENSION = 16


def space_of(name: str, dimension: int = DIMENSION, metric: Metric = "cosine") -> Space:
    """A model version that nobody has trained."""
    mark = hashlib.sha256(name.encode()).hexdigest()
    return Space(name, "1", mark, mark[::-1], dimension, metric)


OLD, NEW = space_of("old"), space_of("new")


def face(number: int, space: Space = OLD, view: int = 0) -> Vector:
    """A unit vector for each person; views of one person are close to each other."""
    person = np.random.default_rng(number).standard_normal(space.dimension)
    change = np.random.default_rng([number, view]).standard_normal(space.dimension)
    vector = person + (0.1 * change if view else 0.0)
    made: Vector = (vector / np.linalg.norm(vector)).astype(np.float32)
    return made


def enrolment(number: int, space: Space = OLD, view: int = 0, key: str = "") -> Enrolment:
    """One template of person ``number``."""
    template = NewTemplate(space, face(number, space, view), f"t{number}-{view}", quality=50.0)
    return Enrolment(f"person-{number}", [template], key=key, fingerprint=key and str(number))


def stored(number: int, space: Space, *, sequence: int = 0, mapped_by: str = "") -> Template:
    """A template as a stream of rows carries it, under the id that `enrolment` gives."""
    return Template(
        tenant="acme",
        subject_id=f"person-{number}",
        id=f"t{number}-0",
        space=space,
        vector=face(number, space),
        map=mapped_by,
        confidence=0.75 if mapped_by else 1.0,
        quality=50.0,
        sequence=sequence,
    )
