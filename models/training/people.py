"""Who is on the training faces: labels cleaned with a teacher's help, people held out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from models.training.faces import OTHERS, Faces, Split, load_faces, split_people
from models.training.teacher import doubtful_labels, merged_people, teacher_targets
from models.training.validation import Validation

CERTAIN_LABELS = "cfp"
"""The source whose labels are never doubted: its profiles are far from their people's mean."""


class PeopleOptions(BaseModel):
    """Which labels are used, and who is held out; a part of every method's options."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_images: int = Field(3, ge=1, description="people with fewer stay out of the softmax")
    single_faces: bool = Field(
        False, description="each face without a label becomes a person of its own"
    )
    label_floor: float = Field(
        0.15, ge=-1, le=1, description="teacher's cosine below: label unused"
    )
    merge_above: float = Field(
        0.75, ge=0, le=1, description="teacher's cosine of two people: merged"
    )
    holdout_cfp: float = Field(0.27, ge=0, lt=1, description="share of CFP people held out")
    holdout_celeba: float = Field(0.1, ge=0, lt=1, description="share of CelebA people held out")
    holdout_fiw: float = Field(0.06, ge=0, lt=1, description="share of FIW people held out")
    holdout_other: float = Field(
        0.1, ge=0, lt=1, description="share of people held out of sources that are none of Mien's"
    )

    def holdout(self) -> dict[str, float]:
        """Share of people held out per source of the training data."""
        return {
            "cfp": self.holdout_cfp,
            "celeba": self.holdout_celeba,
            "fiw": self.holdout_fiw,
            "lfw": 0.0,
            OTHERS: self.holdout_other,
        }


@dataclass(frozen=True)
class People:
    """Faces with labels that can be trusted.

    Attributes:
        faces: the data, names merged.
        split: who trains, who validates, classes.
        clean: (N,d) unit directions of the teacher; None without one.
        doubtful: (N,) True where a label is not used; None without a teacher.
        validation: held-out pairs; None without a teacher or without held-out people.
    """

    faces: Faces
    split: Split
    clean: Tensor | None
    doubtful: npt.NDArray[np.bool_] | None
    validation: Validation | None

    def facts(self) -> dict[str, object]:
        """For the record of a run."""
        return {
            "data_fingerprint": self.faces.fingerprint,
            "training_faces": len(self.split.train),
            "labelled_faces": int((self.split.labels >= 0).sum()),
            "classes": self.split.classes,
            "validation_faces": len(self.split.validation),
            "doubtful_labels": int(self.doubtful.sum()) if self.doubtful is not None else 0,
        }


def load_people(options: PeopleOptions, data: Path, cache: Path, sface: Path | None) -> People:
    """Load the faces, clean their labels, split the people; the slow parts lie in `cache`."""
    cache.mkdir(parents=True, exist_ok=True)
    faces = load_faces(data, cache)
    if sface is None:
        split = split_people(faces, options.holdout(), options.min_images, None)
        return People(faces, split, None, None, None)
    both = teacher_targets(faces, sface, cache)
    clean = F.normalize(both.sum(dim=1))
    people = _named(faces) if options.single_faces else faces.people
    faces = replace(faces, people=merged_people(clean, people, options.merge_above))
    spared = faces.sources() == CERTAIN_LABELS
    doubtful = doubtful_labels(clean, faces.people, options.label_floor, spared)
    split = split_people(faces, options.holdout(), options.min_images, doubtful)
    held = split.validation
    validation = Validation(faces, held, both[held, 0]) if len(held) else None
    return People(faces, split, clean, doubtful, validation)


def _named(faces: Faces) -> list[str]:
    """The labels, and a name that sorts after all others in its source for every face without.

    Merging then unites the faces of one nameless person, or gives them a person's own name.
    """
    return [
        person or f"{path.split('/', 1)[0]}/~{path}"
        for person, path in zip(faces.people, faces.paths, strict=True)
    ]
