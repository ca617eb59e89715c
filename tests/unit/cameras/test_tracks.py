"""Which face is whose, from boxes and vectors."""

from __future__ import annotations

import numpy as np
import pytest

from services.cameras.camera import Camera
from services.cameras.identity_check import place
from services.cameras.messages import Kind
from services.cameras.track import Track
from services.gateway.detection import Detection
from tests.unit.cameras.people import (
    HEIGHT,
    MODEL,
    SETTINGS,
    WIDTH,
    camera,
    face,
    look,
    of,
    shot,
    vector,
)


def shown(camera: Camera, number: int, *faces: Detection, width: int = WIDTH) -> list[Track]:
    """Shows a frame; gives the tracks of its faces, from left to right."""
    camera.follow(of(number), faces, width, HEIGHT * width // WIDTH)
    seen = [one for one in camera.tracks.values() if one.of.frame_id == str(number)]
    return sorted(seen, key=lambda one: one.middle[0])


def test_a_face_is_followed_from_its_second_frame() -> None:
    one = camera()
    assert shown(one, 0, face(100)) == []
    (track,) = shown(one, 1, face(102))
    assert [(e.kind, e.track_id) for e in one.events()] == [(Kind.APPEARED, track.id)]


@pytest.mark.parametrize("step", [20.0, 60.0, 90.0])
def test_a_walker_who_moves_by_more_than_the_face_is_wide_is_one_track(step: float) -> None:
    one = camera()
    ids = {
        track.id
        for number, x in enumerate(np.arange(30.0, 610.0, step))
        for track in shown(one, number, face(x))
    }
    assert len(ids) == 1


def test_frames_that_are_missing_or_come_at_another_rate_do_not_break_a_track() -> None:
    one = camera()
    ids = set()
    for number in [0, 1, 2, 5, 6, 10, 11, 12]:
        ids |= {track.id for track in shown(one, number, face(60 + 30 * number))}
    assert len(ids) == 1


def test_a_camera_may_change_its_resolution() -> None:
    one = camera()
    ids = set()
    for number in range(12):
        width = 640 if number < 6 else 1280
        zoom = width / 640
        seen = face((100 + 20 * number) * zoom, 240 * zoom, 60 * zoom)
        ids |= {track.id for track in shown(one, number, seen, width=width)}
    assert len(ids) == 1


def test_who_stands_at_the_least_size_stays_one_track_and_is_looked_at_only_when_large() -> None:
    one = camera()  # the least distance of the eyes is 16 pixels, 0.4 of a face's width
    for number in range(30):
        size = 44.0 if number < 6 else 36.0
        one.follow(of(number), [face(200, size=size)], WIDTH, HEIGHT)
    (track,) = one.all_tracks()
    assert track.of.frame_id == "29"
    assert one.follow(of(30), [face(200, size=36.0)], WIDTH, HEIGHT) == []
    ((looked_at, _),) = one.follow(of(31), [face(200, size=44.0)], WIDTH, HEIGHT)
    assert looked_at is track


def test_a_face_below_the_least_size_begins_no_track() -> None:
    one = camera()
    for number in range(10):
        assert shown(one, number, face(200, size=36.0)) == []


def test_who_is_not_seen_for_long_has_left_and_was_unknown() -> None:
    one = camera()
    for number in range(3):
        shown(one, number, face(100))
    for number in range(3, 25):
        shown(one, number)
    told = one.events()
    assert [event.kind for event in told] == [Kind.APPEARED, Kind.UNKNOWN, Kind.LEFT]
    assert told[-1].box is None
    assert [track.id for track in one.departed] == [told[0].track_id]
    assert list(one.all_tracks()) == []


def test_a_track_has_not_left_while_its_shot_is_being_compared() -> None:
    one = camera()
    shown(one, 0, face(100))
    (track,) = shown(one, 1, face(100))
    track.pending = True
    for number in range(2, 30):
        shown(one, number)
    assert Kind.LEFT not in [event.kind for event in one.events()]
    track.pending = False
    shown(one, 30)
    assert [event.kind for event in one.events()] == [Kind.UNKNOWN, Kind.LEFT]


def test_what_a_detector_saw_once_is_no_track() -> None:
    one = camera()
    for number in range(20):
        shown(one, number, *([face(100)] if number == 5 else []))
    assert one.events() == []


def test_a_lost_face_that_comes_back_elsewhere_is_joined_by_its_vector() -> None:
    one = camera()
    shown(one, 0, face(100))
    (track,) = shown(one, 1, face(100))
    track.add(shot(vector(1)), MODEL, 5)
    for number in range(2, 8):
        shown(one, number)
    shown(one, 8, face(330))
    (new,) = shown(one, 9, face(330))
    assert new is not track
    assert not new.told
    assert place(one, new, shot(vector(1, 2, 0.5)), MODEL) is track
    assert shown(one, 10, face(330)) == [track]
    assert [event.kind for event in one.events()] == [Kind.APPEARED]


def test_a_lost_face_is_not_joined_with_somebody_elses() -> None:
    one = camera()
    shown(one, 0, face(100))
    (track,) = shown(one, 1, face(100))
    track.add(shot(vector(1)), MODEL, 5)
    for number in range(2, 8):
        shown(one, number)
    shown(one, 8, face(330))
    (new,) = shown(one, 9, face(330))
    assert place(one, new, shot(vector(2)), MODEL) is new


def test_two_who_were_in_view_at_once_are_never_one_track_however_alike() -> None:
    one = camera()
    shown(one, 0, face(100), face(400))
    left, right = shown(one, 1, face(100), face(400))
    for track in (left, right):
        track.add(shot(vector(1)), MODEL, 5)
    shown(one, 2, face(100))
    assert place(one, left, shot(vector(1)), MODEL) is left
    shown(one, 3, face(100), face(250))
    shown(one, 4, face(100), face(250))
    tracks = {track.id for track in one.all_tracks()}
    assert {left.id, right.id} <= tracks


def test_two_whose_boxes_were_mixed_up_get_their_own_faces_back() -> None:
    one = camera()
    shown(one, 0, face(100), face(400))
    left, right = shown(one, 1, face(100), face(400))
    left.add(shot(vector(1)), MODEL, 5)
    right.add(shot(vector(2)), MODEL, 5)
    assert place(one, left, shot(vector(2)), MODEL) is right
    assert shown(one, 2, face(100), face(400)) == [right, left]


def test_a_track_whose_face_becomes_another_persons_is_parted() -> None:
    one = camera()
    shown(one, 0, face(100))
    (track,) = shown(one, 1, face(100))
    track.add(shot(vector(1)), MODEL, 5)
    new = place(one, track, shot(vector(3)), MODEL)
    assert new is not None
    assert new is not track
    assert shown(one, 2, face(100)) == [new]


def test_a_shot_between_two_people_is_left_out() -> None:
    one = camera()
    shown(one, 0, face(100))
    (track,) = shown(one, 1, face(100))
    track.add(shot(vector(1)), MODEL, 5)
    assert place(one, track, shot(vector(3, 1, 0.2)), MODEL) is None
    assert place(one, track, shot(vector(3, 1, 0.4)), MODEL) is track


def test_people_near_each_other_are_checked_now_and_then() -> None:
    one = camera()
    for number in range(3):
        tracks = shown(one, number, face(100), face(180))
    for track, who in zip(tracks, (1, 2), strict=True):
        track.add(shot(vector(who)), MODEL, 5)
        track.verdict.looks = SETTINGS.max_looks
    due = [bool(one.follow(of(n), [face(100), face(180)], WIDTH, HEIGHT)) for n in range(3, 12)]
    assert any(due)
    assert not all(due)


def test_a_subject_is_told_again_only_after_the_cool_down() -> None:
    one = camera()
    one.policy = one.policy.model_copy(update={"cool_down_seconds": 10.0})
    told = []
    for start in (0, 30, 80):
        shown(one, start, face(100))
        (track,) = shown(one, start + 1, face(100))
        track.verdict.take(look("ada", strong=True))
        one.decide(track, of(start + 1))
        for number in range(start + 2, start + 25):
            shown(one, number)
        told.append([event.kind for event in one.events()])
    assert [Kind.RECOGNISED in kinds for kinds in told] == [True, False, True]
    assert all(kinds[-1] is Kind.LEFT for kinds in told)


def test_a_decision_that_changes_is_told_once() -> None:
    one = camera()
    shown(one, 0, face(100))
    (track,) = shown(one, 1, face(100))
    for look_now in [look(), look(), look(), look("ada"), look("ada"), look("ada"), look(), look()]:
        track.verdict.take(look_now)
        one.decide(track, of(1))
    kinds = [event.kind for event in one.events()]
    assert kinds == [Kind.APPEARED, Kind.UNKNOWN, Kind.RECOGNISED, Kind.UPDATED]


def test_vectors_of_another_model_are_given_up() -> None:
    track = camera_track()
    track.add(shot(vector(1)), MODEL, 5)
    other = type(MODEL)(type(MODEL.space)("m", "2", "a", "b", 8), MODEL.info)
    track.add(shot(vector(2)), other, 5)
    assert len(track.shots) == 1


def test_the_least_of_too_many_shots_goes() -> None:
    track = camera_track()
    for weight in (0.5, 0.1, 0.9, 0.4):
        track.add(shot(vector(1), weight), MODEL, 3)
    assert sorted(one.weight for one in track.shots) == [0.4, 0.5, 0.9]


def camera_track() -> Track:
    one = camera()
    shown(one, 0, face(100))
    (track,) = shown(one, 1, face(100))
    return track
