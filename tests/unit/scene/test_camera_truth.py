"""How what a camera service tells is compared with the truth of a clip."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from services.bench.camera_clips import Clip, ClipFrame
from services.bench.camera_play import Told
from services.bench.camera_truth import judge, share
from services.bench.scene import Seen
from services.rpc.mien.v1 import camera_pb2, face_pb2

LEFT_BOX, RIGHT_BOX = (10.0, 10.0, 40.0, 50.0), (200.0, 10.0, 40.0, 50.0)
APPEARED = camera_pb2.TRACK_EVENT_KIND_APPEARED
RECOGNISED = camera_pb2.TRACK_EVENT_KIND_RECOGNISED
UNKNOWN = camera_pb2.TRACK_EVENT_KIND_UNKNOWN


def _clip(frames: int = 20, visible: float = 1.0) -> Clip:
    """The enrolled "a" on the left, the stranger "b" on the right; four seconds."""
    people = (Seen("a", LEFT_BOX, 1.0, 20, 0), Seen("b", RIGHT_BOX, visible, 20, 0))
    made = tuple(ClipFrame(b"", number / 5, people) for number in range(frames))
    return Clip(made, frozenset({"a"}), 5.0)


def _event(
    kind: camera_pb2.TrackEventKind.ValueType,
    track: str,
    frame: int,
    box: Sequence[float],
    subject: str = "",
    shots: int = 1,
) -> camera_pb2.TrackEvent:
    x, y, width, height = box
    return camera_pb2.TrackEvent(
        kind=kind,
        track_id=track,
        frame_id=str(frame),
        box=face_pb2.Box(x=x, y=y, width=width, height=height),
        subject_id=subject,
        shots=shots,
    )


def _told(events: list[camera_pb2.TrackEvent]) -> Told:
    """Events, and the report of each one's frame that says where the track is."""
    reports = [
        camera_pb2.FrameReport(
            frame_id=event.frame_id,
            tracks=[camera_pb2.TrackedFace(track_id=event.track_id, box=event.box)],
        )
        for event in events
    ]
    return Told(events=events, reports=reports)


RIGHT = [
    _event(APPEARED, "1", 0, LEFT_BOX),
    _event(RECOGNISED, "1", 2, LEFT_BOX, "a"),
    _event(APPEARED, "2", 0, RIGHT_BOX),
    _event(UNKNOWN, "2", 3, RIGHT_BOX),
]


def test_right_answers_are_right() -> None:
    results = judge(_clip(), _told(RIGHT), 10)
    shown = results.shown()
    assert [(walk.person, walk.tracks, walk.wrong) for walk in results.walks] == [
        ("a", 1, False),
        ("b", 1, False),
    ]
    assert (shown["identity_switches"], shown["ghost_tracks"], shown["track_errors"]) == (0, 0, 0)
    assert shown["strangers_named"]["share"] == 0
    assert shown["decision_seconds_p50"] == pytest.approx(0.5)  # 0.4 and 0.6


def test_somebody_nobody_follows_is_an_error_unless_a_stranger() -> None:
    walks = judge(_clip(), _told([]), 10).walks
    assert [(walk.tracks, walk.wrong) for walk in walks] == [(0, True), (0, False)]


def test_a_stranger_who_is_named_and_a_wrong_name_are_errors() -> None:
    events = [
        _event(RECOGNISED, "1", 2, LEFT_BOX, "c"),
        _event(RECOGNISED, "2", 2, RIGHT_BOX, "a"),
    ]
    results = judge(_clip(), _told(events), 10)
    assert [walk.wrong for walk in results.walks] == [True, True]
    assert results.shown()["strangers_named"]["count"] == 1


def test_two_tracks_of_one_person_are_counted_and_the_one_with_most_shots_decides() -> None:
    events = [
        *RIGHT,
        _event(RECOGNISED, "3", 9, LEFT_BOX, "a", shots=5),
        _event(UNKNOWN, "1", 10, LEFT_BOX, shots=1),
    ]
    (walk, _) = judge(_clip(), _told(events), 10).walks
    assert (walk.tracks, walk.named) == (2, "a")


def test_a_track_that_jumps_to_another_person_is_a_switch() -> None:
    events = [*RIGHT, _event(camera_pb2.TRACK_EVENT_KIND_UPDATED, "1", 5, RIGHT_BOX, "a")]
    assert judge(_clip(), _told(events), 10).switches == 1


def test_a_track_of_nobody_is_a_ghost() -> None:
    events = [*RIGHT, _event(APPEARED, "9", 5, (400, 300, 40, 50))]
    assert judge(_clip(), _told(events), 10).ghosts == 1


@pytest.mark.parametrize(
    ("clip", "least_eyes"), [(_clip(frames=9), 10), (_clip(visible=0.4), 10), (_clip(), 25)]
)
def test_who_is_seen_too_short_too_little_or_too_small_is_not_judged(
    clip: Clip, least_eyes: float
) -> None:
    assert "b" not in {walk.person for walk in judge(clip, _told(RIGHT), least_eyes).walks}


def test_an_interval_after_wilson() -> None:
    # Newcombe (1998), table I: 81 of 263 and 0 of 20.
    assert share(81, 263)["low"] == pytest.approx(0.2553, abs=1e-4)
    assert share(81, 263)["high"] == pytest.approx(0.3662, abs=1e-4)
    assert share(0, 20)["high"] == pytest.approx(0.1611, abs=1e-4)
