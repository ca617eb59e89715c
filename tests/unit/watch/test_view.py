"""What is drawn, written and told of events."""

from __future__ import annotations

import json
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from services.rpc.mien.v1 import camera_pb2, face_pb2, model_pb2
from services.watch.drawing import Tracks, label
from services.watch.payload import event_payload
from services.watch.view import open_view
from tests.unit.watch.conftest import picture

BOX = face_pb2.Box(x=20, y=12, width=20, height=24)


def _event(kind: camera_pb2.TrackEventKind.ValueType, **fields: object) -> camera_pb2.TrackEvent:
    own = {"camera_id": "front", "track_id": "track-7", "frame_id": "f1", "box": BOX} | fields
    return camera_pb2.TrackEvent(kind=kind, **own)  # type: ignore[arg-type]


def test_an_event_is_told_in_full_and_without_pictures_or_vectors() -> None:
    event = _event(
        camera_pb2.TRACK_EVENT_KIND_RECOGNISED,
        captured=12.5,
        subject_id="s-1",
        similarity=0.7,
        threshold=0.4,
        fpir=0.01,
        shots=3,
        latency_ms=41.25,
        model=model_pb2.ModelIdentity(name="poseface", version="1"),
        best_shot=camera_pb2.BestShot(
            frame_id="f0", kept=True, face=face_pb2.Face(quality=face_pb2.Quality(unified=80))
        ),
    )
    told = json.loads(json.dumps(event_payload(event)))
    assert told == {
        "event": "recognised",
        "camera_id": "front",
        "track_id": "track-7",
        "frame_id": "f1",
        "captured": 12.5,
        "first_captured": 0.0,
        "subject_id": "s-1",
        "reason": None,
        "similarity": 0.7,
        "threshold": 0.4,
        "fpir": 0.01,
        "margin": None,
        "shots": 3,
        "box": {"x": 20, "y": 12, "width": 20, "height": 24},
        "best_shot": {"frame_id": "f0", "captured": 0.0, "quality": 80, "kept": True},
        "model": "poseface@1",
        "latency_ms": 41.25,
    }


def test_an_unknown_face_is_told_with_its_reason() -> None:
    event = camera_pb2.TrackEvent(
        kind=camera_pb2.TRACK_EVENT_KIND_UNKNOWN, reason=camera_pb2.UNKNOWN_REASON_TOO_SMALL
    )
    told = event_payload(event)
    assert (told["event"], told["reason"], told["box"]) == ("unknown", "too_small", None)
    assert label("abc", event) == "abc too_small"


def test_a_track_is_drawn_until_it_has_left() -> None:
    tracks = Tracks()
    plain = picture(0, 120, 160)
    assert not tracks.drawn(plain, "f1").any()
    tracks.take(_event(camera_pb2.TRACK_EVENT_KIND_RECOGNISED, subject_id="s-1"))
    known = tracks.drawn(plain, "f1")
    assert known[12, 30, 1] > known[12, 30, 2], "green"
    assert not plain.any(), "the picture itself is left alone"
    tracks.take(_event(camera_pb2.TRACK_EVENT_KIND_UPDATED, subject_id=""))
    unknown = tracks.drawn(plain, "f1")
    assert unknown[12, 30, 2] > unknown[12, 30, 1], "red"
    tracks.take(camera_pb2.TrackEvent(kind=camera_pb2.TRACK_EVENT_KIND_LEFT, track_id="track-7"))
    assert not tracks.drawn(plain, "f2").any()


def test_a_track_is_drawn_where_the_report_of_the_frame_says() -> None:
    tracks = Tracks()
    plain = picture(0, 120, 160)
    tracks.take(_event(camera_pb2.TRACK_EVENT_KIND_APPEARED))
    box = face_pb2.Box(x=100, y=60, width=30, height=40)
    report = camera_pb2.FrameReport(frame_id="f2")
    report.tracks.add(track_id="track-7", box=box)
    report.tracks.add(track_id="never-told", box=face_pb2.Box(x=2, y=2, width=9, height=9))
    tracks.see(report)
    drawn = tracks.drawn(plain, "f2")
    assert drawn[100, 115].any(), "the lower edge of the new box"
    assert not drawn[12, 30].any(), "nothing where it was told before"
    assert not drawn[2:11, 2].any(), "nothing of a track without an event"


def test_a_box_of_an_earlier_frame_is_thinner() -> None:
    tracks = Tracks()
    tracks.take(_event(camera_pb2.TRACK_EVENT_KIND_APPEARED))
    plain = picture(0, 120, 160)
    now, later = tracks.drawn(plain, "f1"), tracks.drawn(plain, "f2")
    assert now.astype(int).sum() > later.astype(int).sum() > 0


@pytest.mark.parametrize("name", ["out.mp4", "out.webm"])
def test_a_video_shows_the_pictures_at_their_times(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    view = open_view(path, fps=5)
    for number, at in enumerate((100.0, 100.2, 100.4, 99.0, 101.0)):  # the clock is set back once
        size = (97, 131) if number == 2 else (96, 128)
        view.add(picture(40 * number, *size), at)
    view.close()
    with av.open(str(path)) as opened:
        frames = list(opened.decode(video=0))
    times = [frame.time or 0.0 for frame in frames]
    assert np.allclose(times, [0.0, 0.2, 0.4, 0.401, 1.0], atol=0.02)
    shades = [float(frame.to_ndarray(format="gray").mean()) for frame in frames]
    assert shades == sorted(shades)
    assert {(frame.width, frame.height) for frame in frames} == {(128, 96)}


def test_a_view_that_never_got_a_picture_writes_nothing(tmp_path: Path) -> None:
    open_view(tmp_path / "out.mp4", fps=5).close()
    assert not (tmp_path / "out.mp4").exists()


def test_frames_are_written_into_a_folder(tmp_path: Path) -> None:
    view = open_view(tmp_path / "made" / "here", fps=5)
    for number in range(3):
        view.add(picture(60 * number), 100.0)
    view.close()
    files = sorted((tmp_path / "made" / "here").iterdir())
    assert [file.name for file in files] == ["000000.jpg", "000001.jpg", "000002.jpg"]
    drawn = cv2.imread(str(files[2]))
    assert drawn is not None
    assert drawn.mean() == pytest.approx(120, abs=2)
