"""One face followed by one camera: its shots, their template, and what was told of it."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from services.cameras.messages import BestShot, Box, FrameOf, Why
from services.cameras.verdict import Verdict
from services.gateway.enhancement import Enhancement, Status
from services.gateway.faces import Face
from services.gateway.gallery_models import GalleryModel
from services.rpc.mien.v1 import model_pb2
from services.templates import fuse, quality_weights

Vector = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Shot:
    """One embedded picture of a track.

    Attributes:
        vector: (dimension,) float32, as it is compared.
        feature: what a model with learned weights fuses; the same vector for others.
        weight: what it counts for in the template.
        quality: unified, 0 to 100.
        enhancement: what was done to the face, without its picture.
    """

    vector: Vector = field(repr=False)
    feature: Vector = field(repr=False)
    weight: float
    quality: float
    enhancement: Enhancement | None

    @property
    def native(self) -> bool:
        """Whether it was embedded as the camera saw it, so that enrolment would take it."""
        return self.enhancement is None or self.enhancement.status is not Status.APPLIED


@dataclass(eq=False)
class Track:
    """A face that is followed. All times are seconds of the camera's own time.

    Attributes:
        tenant: whose.
        camera_id: which camera.
        of: the frame that it was last seen in.
        began: when it was first seen.
        seen: when it was last seen.
        first_captured: by the camera's clock, seconds since the epoch.
        box: in the last frame.
        middle: of the face, in shares of width and height.
        across: width of the face, in shares of the frame's.
        told: ``appeared`` was told.
        why_not: why no shot could be embedded.
        best: the best shot.
        model: of the vectors.
        shots: fused in the template.
        pending: a shot is being embedded.
        next_shot: when the next shot may be taken.
        check_from: when its face must be checked, because it was near another; None for never.
        check_after: seconds to the next such check.
        poor: shots in succession that were too poor.
        verdict: what the looks at it add up to.
        told_subject: who it was told to be.
        told_unknown: why it was told to be unknown.
        told_quality: of the best shot when it was last told of.
        told_at: when that was.
        enrolled: subjects that were enrolled from it.
        kept_until: `time.monotonic` at which what is left of it is deleted; 0 while it is seen.
    """

    tenant: str
    camera_id: str
    of: FrameOf
    began: float
    seen: float
    first_captured: float
    box: Box
    middle: tuple[float, float]
    across: float
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    told: bool = False
    why_not: Why | None = None
    best: BestShot | None = None
    model: GalleryModel | None = None
    shots: list[Shot] = field(default_factory=list, repr=False)
    pending: bool = False
    next_shot: float = 0.0
    check_from: float | None = None
    check_after: float = 1.0
    poor: int = 0
    verdict: Verdict = field(default_factory=Verdict)
    told_subject: str = ""
    told_unknown: Why | None = None
    told_quality: float = 0.0
    told_at: float = 0.0
    enrolled: set[str] = field(default_factory=set)
    kept_until: float = 0.0

    @property
    def place(self) -> tuple[FrameOf, float, Box, tuple[float, float], float]:
        """Where and when it was last seen."""
        return (self.of, self.seen, self.box, self.middle, self.across)

    @place.setter
    def place(self, place: tuple[FrameOf, float, Box, tuple[float, float], float]) -> None:
        self.of, self.seen, self.box, self.middle, self.across = place

    def fused(self) -> list[Shot]:
        """The shots of the template: those that were not enhanced, if there are two or more."""
        native = [shot for shot in self.shots if shot.native]
        return native if len(native) >= 2 else self.shots

    def template(self, *, native: bool = False) -> Vector | None:
        """The track's template; None without shots, or where they cancel each other out.

        Args:
            native: of the shots that enrolment would take, alone.
        """
        chosen = [shot for shot in self.shots if shot.native] if native else self.fused()
        if not chosen or self.model is None:
            return None
        unit = self.model.space.metric == "cosine"
        rows = np.stack([shot.feature for shot in chosen])
        try:
            return fuse(rows, [shot.weight for shot in chosen], unit_length=unit)
        except ValueError:
            return None

    def add(self, shot: Shot, model: GalleryModel, most: int) -> None:
        """Takes a shot into the template, in place of the least of them where there are enough.

        Args:
            shot: embedded by ``model``.
            model: vectors of another are given up: they cannot be compared.
            most: shots that are fused.
        """
        if self.model is None or self.model.space != model.space:
            self.shots.clear()
        self.model = model
        self.shots.append(shot)
        if len(self.shots) > most:
            self.shots.remove(min(self.shots, key=lambda one: one.weight))

    def forget(self) -> None:
        """Deletes all that it holds of a face and a person; it is followed on as a new one."""
        self.shots.clear()
        self.best, self.model, self.why_not = None, None, None
        self.verdict = Verdict()
        self.told_subject, self.told_unknown, self.told_quality = "", None, 0.0
        self.enrolled.clear()

    def note_enrolment(self, subject_id: str) -> None:
        """It was enrolled for a subject: it is searched anew, with the next shot."""
        self.enrolled.add(subject_id)
        self.verdict = Verdict()
        self.check_from = self.seen

    def subjects(self) -> set[str]:
        """Whoever it was taken for, or enrolled for."""
        named = {self.told_subject, self.verdict.subject_id, self.verdict.named}
        return {one for one in named if one} | self.enrolled

    def why(self) -> Why:
        """Why nobody is named."""
        return self.verdict.why() or self.why_not or Why.NOT_CONFIRMED

    def identity(self) -> model_pb2.ModelIdentity | None:
        """Of the vectors that were compared."""
        if self.verdict.last is not None:
            return self.verdict.last.model
        return None if self.model is None else self.model.info.identity


def make_shot(
    vector: Vector,
    length: float | None,
    weight: float | None,
    face: Face,
    enhancement: Enhancement | None,
) -> Shot:
    """A shot from what the embedding service gave.

    Args:
        vector: (dimension,) float32.
        length: of what a model with learned weights gave; None for other models.
        weight: that such a model gave the crop; likewise.
        face: measured.
        enhancement: of the face.
    """
    quality = face.quality.unified
    if weight is None or length is None:
        return Shot(vector, vector, quality_weights([quality])[0], quality, enhancement)
    return Shot(vector, vector * np.float32(length), weight, quality, enhancement)
