"""What is told of a camera's tracks: each thing once, and only what changed."""

from __future__ import annotations

import time

from services.cameras.clock import CameraClock
from services.cameras.messages import Box, Event, FrameOf, Kind, Why
from services.cameras.policy import Policy
from services.cameras.track import Track

_BETTER = 15.0  # points of quality by which a best shot must be better to be told
_SPACING = 1.0  # seconds between two reasons for the same track


class Telling:
    """Makes events.

    Args:
        clock: the camera's.
        policy: of the camera.

    Attributes:
        clock: as given.
        policy: as given; it may be replaced.
        told: when a subject was told last, seconds of the camera's time.
    """

    def __init__(self, clock: CameraClock, policy: Policy) -> None:
        self.clock, self.policy = clock, policy
        self.told: dict[str, float] = {}
        self._events: list[Event] = []

    @property
    def now(self) -> float:
        """Seconds of the camera's own time."""
        return self.clock.now

    def events(self) -> list[Event]:
        """What happened since this was last asked."""
        told, self._events = self._events, []
        return told

    def appear(self, track: Track) -> None:
        """Tells of a new track."""
        if not track.told:
            track.told = True
            self.tell(Kind.APPEARED, track, track.of)

    def tell(
        self,
        kind: Kind,
        track: Track,
        of: FrameOf,
        why: Why | None = None,
        box: Box | None = None,
    ) -> None:
        """Tells what happened to a track; ``box`` is in ``of``, unless that is the last frame."""
        look, subject = track.verdict.last, track.told_subject
        self._events.append(
            Event(
                kind=kind,
                track_id=track.id,
                of=of,
                box=None if kind is Kind.LEFT else box or track.box,
                best=track.best,
                subject_id=subject,
                similarity=None if look is None else look.similarity,
                threshold=None if look is None else look.threshold,
                fpir=None if look is None else look.fpir,
                margin=None if look is None else look.margin,
                why=why,
                model=track.identity(),
                shots=len(track.fused()),
                first_captured=track.first_captured,
                seconds=0.0 if kind is Kind.LEFT and not of.frame_id else _since(of.arrived),
            )
        )
        track.told_at = self.now
        if track.best is not None:
            track.told_quality = track.best.face.quality.unified

    def nobody(self, track: Track, of: FrameOf, box: Box | None = None) -> None:
        """Tells of a track that it is nobody, whatever the looks at it say."""
        if not track.told_subject and track.told_unknown is None:
            track.told_unknown = track.why()
            self.tell(Kind.UNKNOWN, track, of, track.told_unknown, box)

    def decide(self, track: Track, of: FrameOf, box: Box | None = None) -> None:
        """Tells what is new of who a track is.

        Args:
            track: with its verdict.
            of: the frame that brought it about.
            box: of the face in that frame; None for the last frame's.
        """
        verdict = track.verdict
        if not verdict.decided:
            return
        subject, why = verdict.subject_id, verdict.why()
        if subject and subject != track.told_subject:
            self._recognise(track, subject, of, box)
        elif not subject and track.told_subject:
            track.told_subject, track.told_unknown = "", why
            self.tell(Kind.UPDATED, track, of, why, box)
        elif not subject and track.told_unknown is None:
            track.told_unknown = why
            self.tell(Kind.UNKNOWN, track, of, why, box)
        elif not subject and why is not track.told_unknown and self.now > track.told_at + _SPACING:
            track.told_unknown = why
            self.tell(Kind.UPDATED, track, of, why, box)
        elif (
            track.best is not None
            and track.best.face.quality.unified > track.told_quality + _BETTER
        ):
            self.tell(Kind.UPDATED, track, of, None if subject else why, box)

    def _recognise(self, track: Track, subject: str, of: FrameOf, box: Box | None) -> None:
        track.told_subject, track.told_unknown = subject, None
        before = self.told.get(subject)
        if before is not None and self.now < before + self.policy.cool_down_seconds:
            return
        self.told[subject] = self.now
        self.tell(Kind.RECOGNISED, track, of, box=box)


def _since(moment: float) -> float:
    return max(0.0, time.monotonic() - moment)
