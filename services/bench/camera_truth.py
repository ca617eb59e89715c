"""Compares what the camera service told of clips with the truth of them."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from services.bench.camera_clips import Clip, ClipFrame
from services.bench.camera_play import Told
from services.bench.scene import Seen
from services.rpc.mien.v1 import camera_pb2, face_pb2

_IN_VIEW_SECONDS = 2.0
_IN_VIEW_SHARE = 0.5  # of a face that is neither hidden nor beyond the edge
_OVERLAP = 0.3  # of a told box with the true one, as intersection over union
_NORMAL_95 = 1.96


@dataclass(frozen=True)
class WalkResult:
    """What was told of one person in one clip, who was in view for two seconds or more.

    Attributes:
        person: key.
        enrolled: whether the person should be named.
        tracks: that follow mostly this person.
        named: whom the track with most shots named at last; None for nobody.
        seconds: from the first frame in view to the first decision; None without one.
    """

    person: str
    enrolled: bool
    tracks: int
    named: str | None
    seconds: float | None

    @property
    def wrong(self) -> bool:
        """True if the person is not named, or named wrongly, or a stranger is named."""
        return is_wrong(self.person, self.named, enrolled=self.enrolled)


@dataclass
class ClipResults:
    """Of one clip or several.

    Attributes:
        walks: of people in view.
        switches: tracks that went over from one person to another, as often as they did.
        ghosts: tracks that follow nobody.
    """

    walks: list[WalkResult] = field(default_factory=list)
    switches: int = 0
    ghosts: int = 0

    def add(self, other: ClipResults) -> None:
        """Takes in another."""
        self.walks += other.walks
        self.switches += other.switches
        self.ghosts += other.ghosts

    def shown(self) -> dict[str, Any]:
        """Shares with 95 % intervals (Wilson), counts, and times in seconds."""
        strangers = [walk for walk in self.walks if not walk.enrolled]
        named = sum(walk.named is not None for walk in strangers)
        one = sum(walk.tracks == 1 for walk in self.walks)
        times = [walk.seconds for walk in self.walks if walk.seconds is not None]
        return {
            "people_in_view": len(self.walks),
            "one_track": share(one, len(self.walks)),
            "tracks_per_person": _mean([walk.tracks for walk in self.walks]),
            "identity_switches": self.switches,
            "ghost_tracks": self.ghosts,
            "track_errors": sum(walk.wrong for walk in self.walks),
            "track_error_rate": share(sum(walk.wrong for walk in self.walks), len(self.walks)),
            "strangers_named": share(named, len(strangers)),
            "decision_seconds_p50": _percentile(times, 50),
            "decision_seconds_p95": _percentile(times, 95),
        }


def judge(clip: Clip, told: Told, least_eyes: float) -> ClipResults:
    """Compares one clip.

    A track belongs to the person whose box most of its boxes lie on; a switch is where two of its
    boxes in succession lie on two people.

    Args:
        clip: that was played.
        told: of it.
        least_eyes: pixels between the eyes from which faces are followed.
    """
    places: dict[str, list[str]] = {}
    events: dict[str, list[camera_pb2.TrackEvent]] = {}
    for event in told.events:
        events.setdefault(event.track_id, []).append(event)
    for track_id, frame_id, box in _boxes(told):
        seen = nearest(clip.frames[int(frame_id)], box)
        places.setdefault(track_id, []).extend([] if seen is None else [seen.person])
    owners = {
        track: Counter(found).most_common(1)[0][0] for track, found in places.items() if found
    }
    results = ClipResults(ghosts=len(events.keys() - owners.keys()))
    for found in places.values():
        results.switches += sum(a != b for a, b in itertools.pairwise(found))
    for person in sorted(in_view(clip, least_eyes)):
        own = [
            events[track] for track, owner in owners.items() if owner == person and track in events
        ]
        results.walks.append(_walk(clip, person, own, least_eyes))
    return results


def in_view(clip: Clip, least_eyes: float) -> set[str]:
    """Who is seen for two seconds or more, summed over the clip."""
    counts = Counter(
        one.person for frame in clip.frames for one in frame.people if _is_seen(one, least_eyes)
    )
    return {person for person, count in counts.items() if count >= _IN_VIEW_SECONDS * clip.fps}


def nearest(frame: ClipFrame, box: face_pb2.Box) -> Seen | None:
    """The person on whose true box a told box lies; None for nobody."""
    best = max(frame.people, key=lambda one: _overlap(one, box), default=None)
    return best if best is not None and _overlap(best, box) >= _OVERLAP else None


def is_wrong(person: str, named: str | None, *, enrolled: bool) -> bool:
    """True for a wrong answer: nobody is the right one for a stranger."""
    return named != (person if enrolled else None)


def share(count: int, total: int) -> dict[str, float]:
    """A share with its 95 % interval after Wilson."""
    if not total:
        return {"share": math.nan, "low": math.nan, "high": math.nan, "count": 0, "of": 0}
    p, z = count / total, _NORMAL_95
    middle = (p + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * math.sqrt(p * (1 - p) / total + (z / (2 * total)) ** 2)
    low, high = max(middle - half, 0.0), min(middle + half, 1.0)
    return {
        "share": round(p, 4),
        "low": round(low, 4),
        "high": round(high, 4),
        "count": count,
        "of": total,
    }


def _boxes(told: Told) -> Iterator[tuple[str, str, face_pb2.Box]]:
    """Track, frame and box of all that was told with a place."""
    for report in told.reports:
        for face in report.tracks:
            yield face.track_id, report.frame_id, face.box


def _walk(
    clip: Clip, person: str, tracks: Sequence[list[camera_pb2.TrackEvent]], least_eyes: float
) -> WalkResult:
    decided = [
        event
        for track in tracks
        for event in track
        if event.kind
        in (camera_pb2.TRACK_EVENT_KIND_RECOGNISED, camera_pb2.TRACK_EVENT_KIND_UNKNOWN)
    ]
    first_seen = next(
        frame.seconds
        for frame in clip.frames
        for one in frame.people
        if one.person == person and _is_seen(one, least_eyes)
    )
    first = min((clip.frames[int(event.frame_id)].seconds for event in decided), default=None)
    longest = max(tracks, key=lambda events: max(one.shots for one in events), default=[])
    named = longest[-1].subject_id or None if longest else None
    return WalkResult(
        person,
        person in clip.enrolled,
        len(tracks),
        named,
        None if first is None else max(first - first_seen, 0.0),
    )


def _is_seen(one: Seen, least_eyes: float) -> bool:
    return one.visible >= _IN_VIEW_SHARE and one.eyes >= least_eyes


def _overlap(one: Seen, box: face_pb2.Box) -> float:
    x, y, w, h = one.box
    across = min(x + w, box.x + box.width) - max(x, box.x)
    down = min(y + h, box.y + box.height) - max(y, box.y)
    common = max(across, 0.0) * max(down, 0.0)
    return common / (w * h + box.width * box.height - common)


def _mean(values: Sequence[float]) -> float | None:
    return round(float(np.mean(values)), 3) if values else None


def _percentile(values: Sequence[float], percent: float) -> float | None:
    return round(float(np.percentile(values, percent)), 3) if values else None
