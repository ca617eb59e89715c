"""What is kept of tracks for a while: pictures of best shots, and vectors of those that have left.

All of it is in memory alone, and is deleted by a clock that nobody can set.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from services.cameras.messages import BestShot
from services.cameras.track import Track

_MOST_DEPARTED = 1000  # of a tenant's tracks; the oldest go first
_MOST_PICTURES = 1000


@dataclass(frozen=True)
class KeptPicture:
    """The picture of a best shot.

    Attributes:
        tenant: whose.
        track: that it is of.
        shot: in words.
        image: JPEG.
        until: `time.monotonic` at which it is deleted.
        expires: the same in seconds since the epoch, for people.
    """

    tenant: str
    track: Track = field(repr=False)
    shot: BestShot
    image: bytes = field(repr=False)
    until: float
    expires: float


class Keeping:
    """Keeps. It belongs to one event loop."""

    def __init__(self) -> None:
        self._pictures: dict[str, KeptPicture] = {}
        self._departed: dict[str, Track] = {}

    def keep_picture(self, track: Track, shot: BestShot, image: bytes, seconds: float) -> None:
        """Keeps a picture in place of the track's earlier one."""
        self._pictures.pop(track.id, None)
        if len(self._pictures) >= _MOST_PICTURES:
            del self._pictures[next(iter(self._pictures))]
        self._pictures[track.id] = KeptPicture(
            track.tenant, track, shot, image, time.monotonic() + seconds, time.time() + seconds
        )

    def picture(self, tenant: str, track_id: str) -> KeptPicture | None:
        """A picture that has not expired."""
        found = self._pictures.get(track_id)
        if found is None or found.tenant != tenant or time.monotonic() >= found.until:
            return None
        return found

    def keep_track(self, track: Track) -> None:
        """Keeps a track that has left, until its time."""
        if len(self._departed) >= _MOST_DEPARTED:
            del self._departed[next(iter(self._departed))]
        if track.kept_until > time.monotonic():
            self._departed[track.id] = track

    def departed(self) -> list[Track]:
        """Tracks that have left and are still kept."""
        now = time.monotonic()
        return [track for track in self._departed.values() if now < track.kept_until]

    def drop_picture(self, track: Track) -> None:
        """Deletes a track's picture."""
        self._pictures.pop(track.id, None)

    def drop_track(self, track: Track) -> None:
        """Deletes a track that has left, with its picture."""
        self._departed.pop(track.id, None)
        self.drop_picture(track)

    def sweep(self) -> None:
        """Deletes what has expired."""
        now = time.monotonic()
        self._pictures = {key: one for key, one in self._pictures.items() if now < one.until}
        self._departed = {key: one for key, one in self._departed.items() if now < one.kept_until}
