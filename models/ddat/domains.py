"""Who is in the source domain and who in the target: no person is in both."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from models.training.faces import NOBODY, Faces, Ints, Split


@dataclass(frozen=True)
class Domains:
    """Rows of the training faces.

    Attributes:
        source: (S,) good faces, which are degraded in training; all named or single.
        target: (T,) faces seen in degraded form only, without their labels.
        labels: (N,) class of each source row, -1 outside the classifier and in the target.
        classes: people in the classifier.
    """

    source: Ints
    target: Ints
    labels: Ints
    classes: int

    def facts(self) -> dict[str, object]:
        """For the record of a run."""
        return {
            "source_faces": len(self.source),
            "target_faces": len(self.target),
            "source_classes": self.classes,
        }


def split_domains(faces: Faces, split: Split, share: float, sharp_from: float) -> Domains:
    """Deals the people who train to the two domains, by their names alone.

    A face whose person is not known could be in both and stays out.

    Args:
        faces: the data, with people merged.
        split: who trains.
        share: of people in the target, (0,1).
        sharp_from: source faces with a smaller eye distance in their picture, px, are no good
            faces and stay out.

    Raises:
        ValueError: a domain has no face, or the source has no class.
    """
    named = split.train[np.array([bool(faces.people[row]) for row in split.train], dtype=bool)]
    aimed = np.array([_draw(faces.people[row]) < share for row in named], dtype=bool)
    target, source = named[aimed], named[~aimed]
    source = source[faces.eyes[source] >= sharp_from]
    if not len(source) or not len(target):
        raise ValueError(f"{len(source)} source and {len(target)} target faces are too few")
    labels = np.full(len(faces), NOBODY, dtype=np.int64)
    kept = source[split.labels[source] != NOBODY]
    people, number = np.unique(split.labels[kept], return_inverse=True)
    labels[kept] = number
    if not len(people):
        raise ValueError("no source person has enough faces for the classifier")
    return Domains(source, target, labels, len(people))


def _draw(person: str) -> float:
    """A number in [0,1) that depends on the name alone; another one than who is held out by."""
    return int.from_bytes(hashlib.sha256(f"domain {person}".encode()).digest()[:6], "big") / 2**48
