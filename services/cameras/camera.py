"""One camera: the faces that it sees, as tracks, and what is told of them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

import numpy as np

from services.cameras import shots
from services.cameras.clock import CameraClock
from services.cameras.frames import is_large
from services.cameras.messages import Box, FrameOf, Kind
from services.cameras.policy import Policy
from services.cameras.telling import Telling
from services.cameras.track import Track, Vector
from services.cameras.tracking import FaceTracker, enlarged, near_each_other
from services.gateway.decision import similarity
from services.gateway.detection import Detection
from services.gateway.gallery_models import GalleryModel
from services.settings import CameraSettings

_SEARCHED = 1.0  # seconds for which a face is looked for where it should have moved to
_HELD = 0.6  # seconds for which a new face waits to be compared with those that were just lost
_WALK = 3.0  # widths of a face that a person may walk in a second
_LIKELY_FMR = 1e-3
_CLOSE = 1 + 1e-6  # rates of a card are written by people
_FARTHEST = 1.5  # widths, beside what is walked


class Camera(Telling):
    """Turns detections into tracks and events. It belongs to one event loop.

    Args:
        tenant: whose.
        camera_id: the caller's.
        policy: what it looks for.
        settings: limits and times.
        min_score: detector score from which a face is one.

    Attributes:
        tracks: by number of the tracker: those in sight, and those being looked for.
        lost: tracks that the tracker gave up and that may come back.
        departed: tracks that have left, for whoever keeps them for a while.
    """

    def __init__(
        self,
        tenant: str,
        camera_id: str,
        policy: Policy,
        settings: CameraSettings,
        min_score: float,
    ) -> None:
        super().__init__(CameraClock(), policy)
        self.tenant, self.camera_id = tenant, camera_id
        self.tracks: dict[int, Track] = {}
        self.lost: list[Track] = []
        self.departed: list[Track] = []
        self._before = 0.0
        self._settings = settings
        self._tracker = FaceTracker(min_score, min(_SEARCHED, settings.lost_seconds))

    def all_tracks(self) -> Iterable[Track]:
        """Those that are followed, and those that may come back."""
        return [*self.tracks.values(), *self.lost]

    def follow(
        self, of: FrameOf, faces: Sequence[Detection], width: int, height: int
    ) -> list[tuple[Track, Detection]]:
        """Moves on to a frame.

        Args:
            of: which frame.
            faces: in it.
            width: of it, pixels.
            height: likewise.

        Returns:
            Faces of which a shot is to be taken, with their tracks.
        """
        self._before = self.now
        elapsed = self.clock.advance(of.captured, of.arrived)
        faces = faces[: self._settings.max_tracks]
        large = [is_large(face, self.policy) for face in faces]
        numbers = self._tracker.update(faces, width, height, elapsed, large)
        near = near_each_other(enlarged(faces, width, height))
        wanted = []
        for face, number, doubtful, clear in zip(faces, numbers, near, large, strict=True):
            if number is None:
                continue
            track = self._seen(number, of, face, width, height)
            if doubtful and track.check_from is None and track.shots:
                track.check_from = self.now + track.check_after
            if clear and shots.is_due(track, face, self.now, self._settings):
                wanted.append((track, face))
        self._end(of, [track for track, _ in wanted])
        return wanted

    def in_sight(self, of: FrameOf) -> tuple[tuple[str, Box], ...]:
        """Tracks that have appeared and are seen in this frame, and where."""
        seen = (one for one in self.tracks.values() if one.told and one.of == of)
        return tuple((one.id, one.box) for one in seen)

    def has(self, track: Track) -> bool:
        """Whether a track has not left."""
        return any(one is track for one in self.all_tracks())

    def reconnected(self) -> None:
        """Its frames come on another stream from now on: somebody else may stand there."""
        self.clock.reconnected()
        for track in self.tracks.values():
            if track.shots:
                track.check_from = self.now

    def rejoin(self, track: Track, vector: Vector, model: GalleryModel) -> Track:
        """The track that a new face goes on with: one that was lost, if it is that one's face.

        Args:
            track: of a face that is not told yet.
            vector: of its first shot.
            model: that made it.
        """
        number = self._number_of(track)
        if number is None:
            return track
        found = [
            (similarity(vector, template, model.info.metric), lost)
            for lost in self._could_be(track)
            if lost.model is not None
            and lost.model.space == model.space
            and (template := lost.template()) is not None
        ]
        best = max(found, key=lambda one: one[0], default=None)
        if best is None or best[0] < likely(model):
            return track
        back = best[1]
        self._take_out(back)
        self.tracks[number] = back
        back.place = track.place
        return back

    def part(self, track: Track) -> Track | None:
        """Gives a track's face, which is another person's, to a new one; None if it is gone."""
        number = self._number_of(track)
        if number is None:
            return None
        new = Track(
            track.tenant, track.camera_id, track.of, self.now, self.now, track.of.captured,
            track.box, track.middle, track.across,
        )  # fmt: skip
        self.tracks[number] = new
        track.check_from = None
        self.lost.append(track)
        return new

    def swap(self, one: Track, other: Track) -> None:
        """Gives two tracks that were taken for each other their own faces back."""
        first, second = self._number_of(one), self._number_of(other)
        if first is None:
            return
        self.tracks[first] = other
        if second is None:
            self.lost = [track for track in self.lost if track is not other]
            self.lost.append(one)
        else:
            self.tracks[second] = one
        one.place, other.place = other.place, one.place

    def leave_all(self) -> None:
        """Ends all tracks, because the camera shows nothing any more."""
        for track in self.all_tracks():
            self._leave(track, FrameOf(self.camera_id, "", track.of.captured, track.of.arrived))
        self.tracks.clear()
        self.lost.clear()

    def _seen(self, number: int, of: FrameOf, face: Detection, width: int, height: int) -> Track:
        x, y, across, down = face.box
        middle = ((x + across / 2) / width, (y + down / 2) / height)
        track = self.tracks.get(number)
        if track is None:
            # It was first seen in the frame before; the tracker waits for a second sighting.
            track = Track(
                self.tenant, self.camera_id, of, self._before, self.now, of.captured,
                face.box, middle, across / width,
            )  # fmt: skip
            self.tracks[number] = track
        track.of, track.seen, track.box = of, self.now, face.box
        track.middle, track.across = middle, across / width
        waited = self.now > track.began + _HELD and not track.pending
        if not track.told and (waited or not self._could_be(track)):
            self.appear(track)
        return track

    def _could_be(self, track: Track) -> list[Track]:
        """Tracks that were lost before this one began, near enough to where it is."""
        found = []
        for lost in self.all_tracks():
            if lost is track or not lost.told or not lost.shots or lost.seen >= track.began:
                continue
            away = np.hypot(
                lost.middle[0] - track.middle[0], (lost.middle[1] - track.middle[1]) * 0.75
            )
            width = max(lost.across, track.across)
            if away <= width * (_FARTHEST + _WALK * (track.began - lost.seen)):
                found.append(lost)
        return found

    def _number_of(self, track: Track) -> int | None:
        return next((number for number, one in self.tracks.items() if one is track), None)

    def _take_out(self, track: Track) -> None:
        self.lost = [one for one in self.lost if one is not track]
        self.tracks = {number: one for number, one in self.tracks.items() if one is not track}

    def _end(self, of: FrameOf, looked_at: Sequence[Track]) -> None:
        """Ends what was not seen for long, and settles what was not decided for long."""
        latest = self.now - self._settings.lost_seconds
        # Who may be the face that is being compared just now is not given up before it was.
        compared = [one for one in self.all_tracks() if one.pending and not one.told]
        awaited = {one.id for track in compared for one in self._could_be(track)}
        for track in self.all_tracks():
            # What its shot says must be told before it has left.
            if track.seen >= latest or track.pending or track.id in awaited:
                continue
            self._take_out(track)
            self._leave(track, of)
        undecided = self.now - self._settings.undecided_seconds
        for track in self.all_tracks():
            waits = track.pending or track in looked_at
            if track.told and track.began < undecided and not waits:
                self._settle(track, of)
        if len(self.told) > self._settings.max_tracks:
            kept = self.now - self.policy.cool_down_seconds
            self.told = {one: when for one, when in self.told.items() if when > kept}

    def _leave(self, track: Track, of: FrameOf) -> None:
        if not track.told:
            return
        self._settle(track, of)
        self.tell(Kind.LEFT, track, of, None if track.told_subject else track.why())
        track.kept_until = time.monotonic() + self.policy.keep_track_seconds
        self.departed.append(track)

    def _settle(self, track: Track, of: FrameOf) -> None:
        if not track.verdict.decided:
            track.verdict.settle()
        self.nobody(track, of)


def likely(model: GalleryModel) -> float:
    """The threshold at which two faces are one person's where few others can be meant.

    Who comes into sight within seconds, near to where somebody was lost, is compared with that one
    alone, so at a false-match rate of `_LIKELY_FMR` that share of strangers is taken for somebody
    who just went out of sight.
    """
    fitted = [one for one in model.info.thresholds if one.fmr <= _LIKELY_FMR * _CLOSE]
    return min((one.similarity for one in fitted), default=float("inf"))


def strictest(model: GalleryModel) -> float:
    """The threshold at which two shots are taken to be of one person without seeing between."""
    return max((one.similarity for one in model.info.thresholds), default=float("inf"))
