"""What goes wrong with cameras: garbage, jumps, cuts, floods, and too many of them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import grpc
import numpy as np
import pytest
from PIL import Image

from services.rpc.mien.v1 import camera_pb2, camera_pb2_grpc
from services.settings import CameraSettings
from tests.integration.cameras.film import (
    APPEARED,
    FPS,
    RECOGNISED,
    UNKNOWN,
    Metadata,
    Stream,
    Walker,
    filmed,
    frame,
    jpeg,
    raw_frame,
    streaming,
    walking,
)
from tests.integration.harness import (
    Mien,
    code_of,
    mien_in_thread,
    rich_error,
    settings_on_free_ports,
    weightless_loader,
)

_C = grpc.StatusCode
Stub = camera_pb2_grpc.CameraServiceStub


@pytest.fixture(scope="module")
def small(mien_home: Path) -> Iterator[Mien]:
    """Takes two cameras, two waiting frames of each, small frames, and forgets soon."""
    limits = CameraSettings(
        max_cameras=2, max_waiting=2, max_frame_bytes=1_000_000, max_frame_pixels=320_000,
        resume_seconds=1.5,
    )  # fmt: skip
    settings = settings_on_free_ports(mien_home).model_copy(update={"cameras": limits})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("services.serve.load_configured", weightless_loader())
        with mien_in_thread(settings) as running:
            yield running


@pytest.fixture(scope="module")
def small_stub(small: Mien) -> Iterator[Stub]:
    with small.channel() as channel:
        yield Stub(channel)


@pytest.fixture(scope="module")
def walk(portraits: Path) -> list[np.ndarray]:
    """Somebody who crosses the picture in four seconds."""
    with Image.open(portraits / "biden.jpg") as opened:
        picture = opened.convert("RGB").resize((300, 380)).crop((0, 0, 300, 300))
    return list(filmed([Walker(picture, walking(0.15, 0.85, 4.0))], 4))


def test_garbage_between_good_frames_is_answered_and_disturbs_nothing(
    small_stub: Stub, metadata: Metadata, walk: list[np.ndarray]
) -> None:
    good = jpeg(walk[0])
    garbage = [
        raw_frame("a", "no-picture", b"\x00garbage" * 9, 1.0),
        raw_frame("a", "cut", good[: len(good) // 2], 1.0),
        raw_frame("a", "empty", b"", 1.0),
        raw_frame("", "nameless", good, 1.0),
        raw_frame("a b", "spaced", good, 1.0),
        raw_frame("a", "short", b"\x00" * 99, 1.0, camera_pb2.FRAME_FORMAT_BGR, 64, 64),
        raw_frame("a", "odd", b"\x00" * 99, 1.0, camera_pb2.FRAME_FORMAT_NV12, 65, 64),
        raw_frame("a", "long", b"\x00" * 1_000_001, 1.0),
        raw_frame("a", "wide", jpeg(np.zeros((600, 600, 3), np.uint8)), 1.0),
        raw_frame("a", "timeless", good, float("nan")),
        raw_frame("a", "strange", good, 1.0, 99),  # type: ignore[arg-type]
        camera_pb2.RecognizeRequest(),
    ]
    with streaming(small_stub, metadata) as stream:
        for number, pixels in enumerate(walk):
            stream.show([frame("a", number, pixels)])
            if 4 <= number < 4 + len(garbage):
                stream.show([garbage[number - 4]])
        stream.finish()
    assert {one.frame_id: (one.code, one.field) for one in stream.errors} == {
        "no-picture": ("image_unsupported_format", "frame.content"),
        "cut": ("image_truncated", "frame.content"),
        "empty": ("image_empty", "frame.content"),
        "nameless": ("invalid_request", "frame.camera_id"),
        "spaced": ("invalid_request", "frame.camera_id"),
        "short": ("invalid_request", "frame.content"),
        "odd": ("invalid_request", "frame.width"),
        "long": ("image_too_many_bytes", "frame.content"),
        "wide": ("image_too_many_pixels", "frame.content"),
        "timeless": ("invalid_request", "frame.captured"),
        "strange": ("invalid_request", "frame.format"),
        "": ("invalid_request", "frame"),
    }
    assert len(stream.reports) == len(walk)
    assert len(stream.tracks()) == 1


def test_raw_frames_show_the_same_as_jpeg(
    small_stub: Stub, metadata: Metadata, walk: list[np.ndarray]
) -> None:
    faces = {}
    for name in ("jpeg", "bgr", "nv12"):
        with streaming(small_stub, metadata) as stream:
            stream.show([_as(name, n, one) for n, one in enumerate(walk[:8])])
            stream.finish()
        assert not stream.errors
        faces[name] = [one for one in stream.events if one.kind == APPEARED]
        time.sleep(0.1)
    (expected,) = faces["jpeg"]
    for name in ("bgr", "nv12"):
        (one,) = faces[name]
        assert one.frame_id == expected.frame_id
        assert abs(one.box.x - expected.box.x) < 3
        assert abs(one.box.width - expected.box.width) < 3


def _as(name: str, number: int, pixels: np.ndarray) -> camera_pb2.RecognizeRequest:
    moment = 50.0 + number / FPS
    height, width = pixels.shape[:2]
    if name == "bgr":
        raw = np.ascontiguousarray(pixels[..., ::-1]).tobytes()
        layout = camera_pb2.FRAME_FORMAT_BGR
    elif name == "nv12":
        ycc = cv2.cvtColor(pixels, cv2.COLOR_RGB2YCrCb)
        chroma = cv2.resize(ycc[..., [2, 1]], (width // 2, height // 2))
        raw = ycc[..., 0].tobytes() + chroma.tobytes()
        layout = camera_pb2.FRAME_FORMAT_NV12
    else:
        return raw_frame(f"raw-{name}", str(number), jpeg(pixels), moment)
    return raw_frame(f"raw-{name}", str(number), raw, moment, layout, width, height)


def test_frames_of_changing_size_are_one_track(
    small_stub: Stub, metadata: Metadata, walk: list[np.ndarray]
) -> None:
    sizes = [(640, 480), (320, 240), (480, 360)]
    with streaming(small_stub, metadata) as stream:
        for number, pixels in enumerate(walk):
            sized = cv2.resize(pixels, sizes[number // 4 % 3], interpolation=cv2.INTER_AREA)
            stream.show([frame("sizes", number, sized)])
        stream.finish()
    assert len(stream.tracks()) == 1


@pytest.mark.parametrize("jump", [-3600.0, 3600.0, -0.5])
def test_a_clock_that_jumps_breaks_no_track(
    jump: float, small_stub: Stub, metadata: Metadata, walk: list[np.ndarray]
) -> None:
    with streaming(small_stub, metadata) as stream:
        for number, pixels in enumerate(walk):
            captured = 9000.0 + number / FPS + (jump if number >= 8 else 0.0)
            stream.show([frame(f"clock{jump:.0f}", number, pixels, captured)])
            time.sleep(0.05)
        stream.finish()
    assert len(stream.tracks()) == 1
    assert [one.captured for one in stream.reports][8] == 9000.0 + 8 / FPS + jump


def test_a_client_that_is_killed_and_connects_again_goes_on_with_its_tracks(
    small_stub: Stub, metadata: Metadata, walk: list[np.ndarray]
) -> None:
    with streaming(small_stub, metadata) as first:
        first.show([frame("cut", n, one) for n, one in enumerate(walk[:10])])
        first.call.cancel()
    time.sleep(0.4)
    with streaming(small_stub, metadata) as second:
        second.show([frame("cut", 10 + n, one) for n, one in enumerate(walk[10:])])
        second.finish()
    assert len(first.tracks() | second.tracks()) == 1
    assert APPEARED not in second.kinds()


def test_after_a_while_a_camera_that_was_cut_off_begins_anew(
    small_stub: Stub, metadata: Metadata, walk: list[np.ndarray]
) -> None:
    tracks = []
    for _ in range(2):
        with streaming(small_stub, metadata) as stream:
            stream.show([frame("anew", n, one) for n, one in enumerate(walk[:6])])
            stream.finish()
        tracks.append(stream.tracks())
        time.sleep(4.0)
    assert len(tracks[0]) == len(tracks[1]) == 1
    assert tracks[0] != tracks[1]
    cameras = small_stub.ListCameras(camera_pb2.ListCamerasRequest(), metadata=metadata).cameras
    assert list(cameras) == []


def test_the_later_of_two_streams_of_one_camera_goes_on(
    small_stub: Stub, metadata: Metadata, walk: list[np.ndarray]
) -> None:
    with streaming(small_stub, metadata) as first, streaming(small_stub, metadata) as second:
        first.show([frame("twice", n, one) for n, one in enumerate(walk[:5])])
        second.show([frame("twice", 5 + n, one) for n, one in enumerate(walk[5:10])])
        first.wait(lambda: first.ended)
        assert first.failure is not None
        assert code_of(first.failure) is _C.ABORTED
        assert rich_error(first.failure).reason == "CAMERA_TAKEN_OVER"
        second.show([frame("twice", 10 + n, one) for n, one in enumerate(walk[10:])])
        second.finish()
    assert second.failure is None
    assert len(first.tracks() | second.tracks()) == 1


def test_when_frames_come_faster_than_they_can_be_worked_on_the_oldest_are_dropped_and_told(
    small_stub: Stub, metadata: Metadata, walk: list[np.ndarray]
) -> None:
    sent = [frame("flood", n, walk[n % len(walk)]) for n in range(60)]
    with streaming(small_stub, metadata) as stream:
        for one in sent:
            stream.send(one)
        stream.finish()
    assert stream.failure is None
    numbers = [int(one.frame_id) for one in stream.reports]
    assert numbers == sorted(numbers)
    assert numbers[-1] == 59
    dropped = sum(one.dropped for one in stream.reports)
    assert dropped > 0
    assert dropped + len(stream.reports) == 60
    assert max(one.waiting for one in stream.reports) <= 2
    (camera,) = small_stub.ListCameras(camera_pb2.ListCamerasRequest(), metadata=metadata).cameras
    assert (camera.dropped, camera.frames) == (dropped, len(stream.reports))


def test_more_streams_than_there_may_be_are_refused_at_once(
    small_stub: Stub, metadata: Metadata, walk: list[np.ndarray]
) -> None:
    with streaming(small_stub, metadata) as one, streaming(small_stub, metadata) as two:
        one.show([frame("one", 0, walk[0])])
        two.show([frame("two", 0, walk[0])])
        with streaming(small_stub, metadata) as three:
            three.wait(lambda: three.ended)
            assert three.failure is not None
            told = rich_error(three.failure)
        assert (told.code, told.reason) == (_C.RESOURCE_EXHAUSTED, "OVERLOADED")
        assert told.retry_seconds
        one.show([frame("three", 0, walk[0])])
    assert [(error.camera_id, error.code) for error in one.errors] == [("three", "overloaded")]


def test_a_deadline_ends_a_stream_and_frees_its_place(
    small_stub: Stub, metadata: Metadata, walk: list[np.ndarray]
) -> None:
    for _ in range(3):  # there are two places
        requests = iter([frame("hurry", 0, walk[0])])
        with pytest.raises(grpc.RpcError) as caught:
            for _message in small_stub.Recognize(_slowly(requests), metadata=metadata, timeout=0.5):
                pass
        assert code_of(caught.value) is _C.DEADLINE_EXCEEDED
        time.sleep(0.2)


def _slowly(
    requests: Iterator[camera_pb2.RecognizeRequest],
) -> Iterator[camera_pb2.RecognizeRequest]:
    yield from requests
    time.sleep(2.0)


def test_a_camera_of_another_tenant_is_another_camera(
    small_stub: Stub, metadata: Metadata, walk: list[np.ndarray]
) -> None:
    other = (("x-mien-tenant", "somebody-else"),)
    with streaming(small_stub, metadata) as mine, streaming(small_stub, other) as theirs:
        mine.show([frame("same", n, one) for n, one in enumerate(walk[:6])])
        theirs.show([frame("same", n, one) for n, one in enumerate(walk[:6])])
        mine.show([frame("same", 6 + n, one) for n, one in enumerate(walk[6:12])])
        mine.wait(lambda: UNKNOWN in mine.kinds())
        (track,) = mine.tracks()
        assert track not in theirs.tracks()
        ask = camera_pb2.EnrolTrackRequest(track_id=track, subject_id="x")
        with pytest.raises(grpc.RpcError) as caught:
            small_stub.EnrolTrack(ask, metadata=other)
        assert rich_error(caught.value).reason == "TRACK_UNKNOWN"


def test_a_restart_ends_streams_at_once_and_keeps_policies(
    mien_home: Path, metadata: Metadata, walk: list[np.ndarray]
) -> None:
    settings = settings_on_free_ports(mien_home)
    policy = camera_pb2.CameraPolicy(keep_best_shot_seconds=5, watch_list={"list": "guests"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("services.serve.load_configured", weightless_loader())
        with contextlib.ExitStack() as connection:
            with mien_in_thread(settings) as mien:
                stub = Stub(connection.enter_context(mien.channel()))
                ask = camera_pb2.SetCameraPolicyRequest(camera_id="yard", policy=policy)
                stub.SetCameraPolicy(ask, metadata=metadata)
                stream = Stream(stub, metadata)
                stream.show([frame("yard", n, one) for n, one in enumerate(walk[:4])])
                stopped = time.monotonic()
            stream.wait(lambda: stream.ended)
        assert time.monotonic() - stopped < settings.gateway.drain_seconds
        assert stream.failure is not None
        assert code_of(stream.failure) is _C.UNAVAILABLE
        with mien_in_thread(settings) as mien, mien.channel() as channel:
            got = Stub(channel).GetCameraPolicy(
                camera_pb2.GetCameraPolicyRequest(camera_id="yard"), metadata=metadata
            )
            assert got.policy.keep_best_shot_seconds == 5
            assert dict(got.policy.watch_list) == {"list": "guests"}
            with streaming(Stub(channel), metadata) as again:
                again.show([frame("yard", 4 + n, one) for n, one in enumerate(walk[4:10])])
                again.finish()
            assert again.tracks()
            assert not again.tracks() & stream.tracks()
    assert RECOGNISED not in again.kinds()
