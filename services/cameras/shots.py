"""Which faces are worth a closer look, and that look: few shots of a track, and good ones."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from services.cameras.frames import eye_distance
from services.cameras.messages import Why
from services.cameras.track import Track
from services.gateway.alignment import CropGeometry, cut
from services.gateway.decision import Cause, faults
from services.gateway.detection import Detection
from services.gateway.faces import Face
from services.gateway.pipeline import PreparedFace
from services.settings import CameraSettings, DecisionSettings
from services.telemetry import Stopwatch

Pixels = NDArray[np.uint8]

# Seconds between the shots of a track that is not decided yet: the next frame, mostly; and between
# later ones, which are to show the face otherwise.
_FIRST_SPACING = 0.15
_SPACING = 0.6
_POOR_SPACING = 0.3  # seconds after a shot that was too poor; doubled each time
_MOST_DOUBLED = 3
_CLEARLY_BETTER = 1.25  # times as many pixels between the eyes as the best shot has
_VIEW = 256  # pixels; one of the detector's usual sizes
_FACE_IN_VIEW = 120.0  # pixels of the face's longer side there
_FINE_ENOUGH = 60.0  # pixels of a face in the pass that found it, from which its points are exact
_SURROUNDINGS = 2.0  # of the box, in a best shot's picture
_JPEG_QUALITY = 90


class Detector(Protocol):
    """What a shot needs of the pipeline."""

    def detect_as_is(self, pixels: Pixels) -> list[Detection]:
        """The faces of a view."""
        ...

    def prepared(
        self,
        pixels: Pixels,
        detections: list[Detection],
        index: int,
        geometry: CropGeometry,
        watch: Stopwatch,
    ) -> PreparedFace:
        """Measures and aligns a face."""
        ...


@dataclass(frozen=True)
class TakenShot:
    """A face that was looked at closely.

    Attributes:
        prepared: measured and aligned.
        causes: why it does not allow a decision; empty if it does.
        picture: the face with its surroundings as JPEG, where it is to be kept.
    """

    prepared: PreparedFace
    causes: list[Cause]
    picture: bytes | None

    @property
    def face(self) -> Face:
        """The face."""
        if self.prepared.face is None:
            raise RuntimeError("a shot is taken of a face that was found")
        return self.prepared.face


def is_due(track: Track, face: Detection, now: float, limits: CameraSettings) -> bool:
    """Whether a shot is to be taken of a track's face.

    Args:
        track: that the face belongs to.
        face: in the frame at hand.
        now: seconds of the camera's time.
        limits: how many shots and looks there may be.
    """
    if track.pending or now < track.next_shot:
        return False
    if track.check_from is not None and now >= track.check_from:
        return True
    if track.verdict.looks >= limits.max_looks:
        return False
    if len(track.shots) < limits.max_shots and not track.verdict.subject_id:
        return True
    if len(track.shots) < 2 or track.best is None:
        return True
    return eye_distance(face) > _CLEARLY_BETTER * track.best.face.inter_eye_distance


def spacing(track: Track) -> float:
    """Seconds until the next shot may be taken."""
    if track.poor:
        return _POOR_SPACING * 2.0 ** min(track.poor - 1, _MOST_DOUBLED)
    return _SPACING if track.verdict.decided or len(track.shots) >= 2 else _FIRST_SPACING


def take(
    pixels: Pixels,
    face: Detection,
    scale: float,
    detector: Detector,
    geometry: CropGeometry,
    limits: DecisionSettings,
    *,
    keep: bool,
) -> TakenShot:
    """Looks closely at a face.

    Args:
        pixels: of the frame, height x width x 3, RGB, 0-255.
        face: in it.
        scale: at which it was found.
        detector: finds and measures faces.
        geometry: the crop that the embedding model takes.
        limits: least quality and greatest angles.
        keep: make a picture of it, too.
    """
    if max(face.box[2:]) * scale < _FINE_ENOUGH:
        face = refined(pixels, face, detector)
    prepared = detector.prepared(pixels, [face], 0, geometry, Stopwatch())
    causes = [reason.cause for reason in faults(prepared, "probe", limits)]
    return TakenShot(prepared, causes, _picture(pixels, face) if keep else None)


def refined(pixels: Pixels, face: Detection, detector: Detector) -> Detection:
    """A face with its points as a view shows them in which it is larger.

    Args:
        pixels: of the frame.
        face: found where it was small.
        detector: finds faces.
    """
    x, y, width, height = face.box
    scale = _FACE_IN_VIEW / max(width, height)
    middle = np.array([x + width / 2, y + height / 2])
    shift = _VIEW / 2 - scale * middle
    matrix = np.column_stack([scale * np.eye(2), shift])
    found = detector.detect_as_is(cut(pixels, matrix, _VIEW, _VIEW, cubic=scale > 1.75))
    if not found:
        return face
    nearest = min(
        found,
        key=lambda one: abs(
            one.points.mean(axis=0) - (scale * face.points.mean(axis=0) + shift)
        ).max(),
    )
    points = ((nearest.points - shift) / scale).astype(np.float32)
    if float(np.abs(points - face.points).max()) > max(width, height) / 3:
        return face  # it is another face
    return replace(face, points=points)


def why_not(causes: list[Cause], face: Face) -> Why:
    """Why a shot allows no decision, in the words of an event."""
    if Cause.EXTREME_POSE in causes:
        return Why.EXTREME_POSE
    parts = face.quality.components
    size = parts["inter_eye_distance"]
    return Why.TOO_SMALL if size <= min(parts.values()) else Why.POOR_QUALITY


def _picture(pixels: Pixels, face: Detection) -> bytes:
    x, y, width, height = face.box
    half = max(width, height) * _SURROUNDINGS / 2
    rows, columns = pixels.shape[:2]
    left, top = max(0, round(x + width / 2 - half)), max(0, round(y + height / 2 - half))
    right = min(columns, max(left + 1, round(x + width / 2 + half)))
    bottom = min(rows, max(top + 1, round(y + height / 2 + half)))
    part = np.ascontiguousarray(pixels[top:bottom, left:right])
    encoded: bytes = simplejpeg.encode_jpeg(part, quality=_JPEG_QUALITY)
    return encoded
