"""What goes into the camera service and what comes out, free of gRPC."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from services.errors import MienError
from services.gateway.enhancement import Enhancement
from services.gateway.faces import Face
from services.rpc.mien.v1 import model_pb2

Box = tuple[float, float, float, float]
"""Left, top, width, height in pixels."""


class FrameFormat(StrEnum):
    """How the bytes of a frame are laid out."""

    ENCODED = "encoded"
    BGR = "bgr"
    NV12 = "nv12"


@dataclass(frozen=True)
class FrameOf:
    """Which frame is meant.

    Attributes:
        camera_id: the caller's.
        frame_id: the caller's.
        captured: seconds since the epoch, by the camera's clock.
        arrived: `time.monotonic`.
    """

    camera_id: str
    frame_id: str
    captured: float
    arrived: float


@dataclass(frozen=True)
class Frame:
    """A frame as sent.

    Attributes:
        of: which.
        format: layout of ``content``.
        width: pixels, of a raw frame only.
        height: likewise.
        content: the bytes.
    """

    of: FrameOf
    format: FrameFormat
    width: int
    height: int
    content: bytes = field(repr=False)


class Kind(StrEnum):
    """What happened to a track."""

    APPEARED = "appeared"
    RECOGNISED = "recognised"
    UNKNOWN = "unknown"
    UPDATED = "updated"
    LEFT = "left"


class Why(StrEnum):
    """Why nobody is named."""

    NO_MATCH = "no_match"
    AMBIGUOUS = "ambiguous"
    POOR_QUALITY = "poor_quality"
    EXTREME_POSE = "extreme_pose"
    TOO_SMALL = "too_small"
    EMPTY_GALLERY = "empty_gallery"
    NOT_CONFIRMED = "not_confirmed"
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True)
class BestShot:
    """The best picture of a track so far.

    Attributes:
        of: the frame that it is in.
        face: measured.
        enhancement: what was done to it before it was embedded; None if it was not.
        kept: its picture can be fetched.
    """

    of: FrameOf
    face: Face
    enhancement: Enhancement | None
    kept: bool


@dataclass(frozen=True)
class Event:
    """Something that happened to a track.

    Attributes:
        kind: what.
        track_id: whose.
        of: the frame that brought it about.
        box: where the face is in it; None when it has left.
        best: the best shot; None until there is one.
        subject_id: who it is; empty where nobody is named.
        similarity: of the track's template to the first candidate; None without one.
        threshold: that it must reach.
        fpir: that the threshold was set for.
        margin: lead of the first candidate; None without a second.
        why: why nobody is named; None where somebody is, or it is not decided yet.
        model: that made the vectors; None before there are any.
        shots: fused in the template.
        first_captured: when the track was first seen, by the camera's clock.
        seconds: from the arrival of the frame to this event.
    """

    kind: Kind
    track_id: str
    of: FrameOf
    box: Box | None
    best: BestShot | None
    subject_id: str
    similarity: float | None
    threshold: float | None
    fpir: float | None
    margin: float | None
    why: Why | None
    model: model_pb2.ModelIdentity | None
    shots: int
    first_captured: float
    seconds: float


@dataclass(frozen=True)
class Report:
    """What became of a frame.

    Attributes:
        of: which.
        faces: that it shows and that are followed.
        dropped: frames of the camera that were dropped since the last report.
        waiting: frames of the camera that wait.
        timing_ms: by stage.
        tracks: which tracks that have appeared are seen in it, and where.
    """

    of: FrameOf
    faces: int
    dropped: int
    waiting: int
    timing_ms: dict[str, float]
    tracks: tuple[tuple[str, Box], ...] = ()


@dataclass(frozen=True)
class Refusal:
    """A frame that could not be used."""

    of: FrameOf
    error: MienError


Message = Event | Report | Refusal
