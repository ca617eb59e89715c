"""What a gallery holds and answers: spaces, subjects, templates, candidates, reports.

A *space* is what the vectors of one model version share: those that the model computed and those
that a map made comparable with them. The templates of one space form one collection. Which space is
live is one switch for the whole gallery. A subject's templates may lie in several spaces at once,
and a migration fills one space from another while the first stays live.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Generic, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float32]
Metric = Literal["cosine", "euclidean"]
_Row = TypeVar("_Row")

DEFAULT_TENANT = "default"
MAX_PAGE = 1000
MOST_SCANNED = 10_000
MOST_CANDIDATES = 100
_KEY_HASH = 10  # hex digits: two versions that share a name are still told apart


@dataclass(frozen=True)
class Space:
    """What two vectors must share before they may be compared.

    Attributes:
        model: model name, for example "poseface".
        version: version within that name.
        weights_sha256: of the weights file, lower-case hex.
        preprocessing_sha256: of the description of crop, colour order, mean, std, normalisation.
        dimension: length of the vectors.
        metric: how they are compared; vectors compared by cosine are kept at unit length.
    """

    model: str
    version: str
    weights_sha256: str
    preprocessing_sha256: str
    dimension: int
    metric: Metric = "cosine"

    @property
    def reference(self) -> str:
        """The model as ``name@version``."""
        return f"{self.model}@{self.version}"

    @cached_property  # every vector that is read or stored is bound to it
    def key(self) -> str:
        """The collection's name: letters, digits and underscores, another for every space."""
        told = "|".join(
            (
                self.model,
                self.version,
                self.weights_sha256,
                self.preprocessing_sha256,
                str(self.dimension),
                self.metric,
            )
        )
        mark = hashlib.sha256(told.encode()).hexdigest()[:_KEY_HASH]
        name = re.sub(r"[^0-9A-Za-z]", "_", f"{self.model}_{self.version}")
        return f"t_{name}_{mark}"


@dataclass(frozen=True)
class Collection:
    """The templates of one space.

    Attributes:
        space: whose vectors they are.
        live: whether identification searches it.
        templates: how many there are, of all tenants.
        mapped: how many of these were made by a map.
        last: sequence number of its latest write; 0 when nothing was written.
    """

    space: Space
    live: bool
    templates: int
    mapped: int
    last: int


@dataclass(frozen=True)
class Subject:
    """A person that templates belong to. Name and metadata are personal data.

    Attributes:
        id: the caller's own, unique within the tenant; best one that tells nothing.
        name: what to call the person; may be empty.
        metadata: further texts of the caller's.
        consent: False once consent is withdrawn: the templates stay, no search finds them.
        created: seconds since the epoch; 0 in what is to be stored stands for now.
        updated: likewise, of the last change to the subject itself.
    """

    id: str
    name: str = field(default="", repr=False)
    metadata: Mapping[str, str] = field(default_factory=dict, repr=False)
    consent: bool = True
    created: float = 0.0
    updated: float = 0.0


@dataclass(frozen=True, eq=False)
class Template:
    """One stored vector and where it comes from.

    Attributes:
        tenant: whose it is.
        subject_id: of that tenant.
        id: unique within tenant and space; a mapped template keeps the id of what it was mapped
            from, so that mapping again replaces it.
        space: of the vector.
        vector: (dimension,) float32.
        map: "name@version" of the map that made it; empty for a native one.
        confidence: the map's prediction, a cosine to the native vector; 1 for a native one.
        quality: unified quality of the best picture, 0 to 100.
        pictures: how many pictures were fused.
        created: seconds since the epoch; 0 in what is to be stored stands for now.
        sequence: rises with every write to the gallery; a template that is replaced gets a new one.
            Set by the gallery.
    """

    tenant: str
    subject_id: str
    id: str
    space: Space
    vector: Vector = field(repr=False)
    map: str = ""
    confidence: float = 1.0
    quality: float = 0.0
    pictures: int = 1
    created: float = 0.0
    sequence: int = 0


@dataclass(frozen=True, eq=False)
class NewTemplate:
    """A native template that is to be enrolled.

    Attributes:
        space: of the vector, as the embedding service declared it.
        vector: (dimension,) float32, finite; any length but 0 where the metric is cosine.
        id: the caller's, to replace a template or to repeat a call safely; made here if empty.
        quality: unified quality of the best picture, 0 to 100.
        pictures: how many pictures were fused.
    """

    space: Space
    vector: Vector = field(repr=False)
    id: str = ""
    quality: float = 0.0
    pictures: int = 1


@dataclass(frozen=True, eq=False)
class Enrolment:
    """Templates for one subject, stored together or not at all.

    Attributes:
        subject_id: is made if it does not exist.
        templates: at least one of the live space; others of further spaces, as during a migration.
        name: replaces the subject's name unless None.
        metadata: replaces the subject's metadata unless None.
        key: idempotency key: a second enrolment under it, within the tenant, changes nothing and
            gets the first one's answer. Kept until the subject is deleted.
        fingerprint: of what the caller was asked; another one under the same key is refused.
        replace_mapped: delete the subject's mapped templates in the spaces that are enrolled in.
    """

    subject_id: str
    templates: Sequence[NewTemplate]
    name: str | None = field(default=None, repr=False)
    metadata: Mapping[str, str] | None = field(default=None, repr=False)
    key: str = ""
    fingerprint: str = ""
    replace_mapped: bool = False


@dataclass(frozen=True)
class Enrolled:
    """What became of an `Enrolment`.

    Attributes:
        subject_id: as asked.
        template_ids: one for each template, in the order given.
        repeated: the key had been used for the same enrolment; nothing was stored again.
    """

    subject_id: str
    template_ids: tuple[str, ...]
    repeated: bool = False


@dataclass(frozen=True)
class Candidate:
    """A subject that resembles a probe, by its most similar template.

    Attributes:
        subject_id: who.
        template_id: which of the subject's templates.
        similarity: cosine, or negative Euclidean distance.
        map: of the template; its similarities need the map's thresholds. Empty for a native one.
        confidence: of the template.
        quality: of the template.
    """

    subject_id: str
    template_id: str
    similarity: float
    map: str = ""
    confidence: float = 1.0
    quality: float = 0.0


@dataclass(frozen=True)
class Page(Generic[_Row]):
    """A part of a listing; ``cursor`` fetches the next part and is empty at the end."""

    rows: tuple[_Row, ...]
    cursor: str = ""


@dataclass(frozen=True)
class DeletionReport:
    """What was deleted, and what a second look found.

    Attributes:
        subject_id: whose traces; empty when a single template was deleted.
        subjects: rows deleted, 0 or 1.
        templates: rows deleted, by collection.
        searchable: vectors taken out of search, by collection.
        keys: idempotency keys deleted.
        remaining: what is left by place, read back after the deletion: all 0.
        overwritten: whether the store also overwrote the bytes on its disk.
        at: seconds since the epoch.
    """

    subject_id: str
    subjects: int
    templates: Mapping[str, int]
    searchable: Mapping[str, int]
    keys: int
    remaining: Mapping[str, int]
    overwritten: bool
    at: float

    @property
    def verified(self) -> bool:
        """Whether the second look found nothing."""
        return not any(self.remaining.values())


@dataclass(frozen=True)
class Job:
    """A long job's state, kept with the rows that it writes. It holds no personal data.

    Attributes:
        name: unique in the gallery.
        state: anything that JSON can hold: counts, cursors, model names.
        updated: seconds since the epoch; set by the gallery.
    """

    name: str
    state: Mapping[str, Any]
    updated: float = 0.0


@dataclass(frozen=True)
class Written:
    """What became of the templates given to `Gallery.write`.

    Attributes:
        written: stored.
        skipped: left out: what they were derived from is gone or has changed, or the target holds
            a native template of that id.
    """

    written: int
    skipped: int
