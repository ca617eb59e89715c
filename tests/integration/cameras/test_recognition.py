"""What a camera tells of the people before it, with the real networks."""

from __future__ import annotations

import time

from PIL import Image

from services.rpc.mien.v1 import camera_pb2, camera_pb2_grpc, gallery_pb2, gallery_pb2_grpc
from tests.integration.cameras.conftest import enrol
from tests.integration.cameras.film import (
    APPEARED,
    LEFT,
    RECOGNISED,
    UNKNOWN,
    Metadata,
    Walker,
    a_camera,
    filmed,
    frame,
    standing,
    streaming,
    walking,
)

Stub = camera_pb2_grpc.CameraServiceStub
GalleryStub = gallery_pb2_grpc.GalleryServiceStub


def test_an_enrolled_person_is_recognised_once_and_a_stranger_is_unknown(
    stub: Stub,
    metadata: Metadata,
    with_obama: str,
    obama_filmed: Image.Image,
    biden_filmed: Image.Image,
) -> None:
    camera = a_camera()
    people = [Walker(obama_filmed, standing(0.25)), Walker(biden_filmed, standing(0.75))]
    with streaming(stub, metadata) as stream:
        stream.show([frame(camera, n, one) for n, one in enumerate(filmed(people, 3))])
        stream.finish()
    assert [one.faces for one in stream.reports] == [2] * 15
    assert len(stream.tracks()) == 2
    last = {one.track_id: one.box for one in stream.reports[-1].tracks}
    assert set(last) == set(stream.tracks()), "the report says where both are"
    (known,) = stream.of_kind(RECOGNISED)
    (unknown,) = stream.of_kind(UNKNOWN)
    assert known.subject_id == with_obama
    assert known.similarity >= known.threshold
    assert 0 < known.fpir < 1
    assert known.model.name == "poseface"
    assert known.model.weights_sha256
    assert known.box.x + known.box.width / 2 < 320 < unknown.box.x + unknown.box.width / 2
    assert last[known.track_id].x < 320 < last[unknown.track_id].x
    assert unknown.subject_id == ""
    assert unknown.reason == camera_pb2.UNKNOWN_REASON_NO_MATCH
    assert unknown.similarity < unknown.threshold
    assert unknown.shots >= 2
    for one in (known, unknown):
        assert one.camera_id == camera
        assert one.captured == 1000.0 + int(one.frame_id) / 5
        assert one.best_shot.face.quality.unified > 50
        assert not one.best_shot.kept
    assert {one.track_id for one in stream.of_kind(APPEARED)} == {known.track_id, unknown.track_id}


def test_everybody_is_unknown_to_an_empty_gallery(
    stub: Stub, metadata: Metadata, biden_filmed: Image.Image
) -> None:
    people = [Walker(biden_filmed, standing(0.5))]
    with streaming(stub, metadata) as stream:
        stream.show([frame("door", n, one) for n, one in enumerate(filmed(people, 1))])
        stream.finish()
    (unknown,) = stream.of_kind(UNKNOWN)
    assert unknown.reason == camera_pb2.UNKNOWN_REASON_EMPTY_GALLERY


def test_two_who_cross_keep_their_tracks_and_names(
    stub: Stub,
    gallery: GalleryStub,
    metadata: Metadata,
    with_obama: str,
    obama_filmed: Image.Image,
    biden_filmed: Image.Image,
) -> None:
    enrol(gallery, metadata, "biden", biden_filmed)
    people = [
        Walker(obama_filmed, walking(0.1, 0.9, 5.0, 0.4)),
        Walker(biden_filmed, walking(0.9, 0.1, 5.0, 0.6)),
    ]
    with streaming(stub, metadata) as stream:
        stream.show([frame("hall", n, one) for n, one in enumerate(filmed(people, 5))])
        stream.show([frame("hall", 30 + n, one) for n, one in enumerate(filmed([], 3))])
        stream.finish()
    named = {one.subject_id: one.track_id for one in stream.of_kind(RECOGNISED)}
    assert set(named) == {with_obama, "biden"}
    assert len(stream.tracks()) == 2
    for one in stream.of_kind(LEFT):
        assert named[one.subject_id] == one.track_id


def test_a_fast_walker_is_one_track_although_frames_are_missing(
    stub: Stub, metadata: Metadata, with_obama: str, obama_filmed: Image.Image
) -> None:
    people = [Walker(obama_filmed, walking(0.0, 1.0, 3.0))]
    film = list(enumerate(filmed(people, 3)))
    with streaming(stub, metadata) as stream:
        stream.show([frame("gate", n, one) for n, one in film if n not in {5, 6, 9}])
        stream.finish()
    assert len(stream.tracks()) == 1
    assert [one.subject_id for one in stream.of_kind(RECOGNISED)] == [with_obama]


def test_who_is_hidden_for_a_moment_comes_back_as_the_same_track(
    stub: Stub, metadata: Metadata, with_obama: str, obama_filmed: Image.Image
) -> None:
    seen = Walker(obama_filmed, standing(0.4), ends=2.0)
    again = Walker(obama_filmed, standing(0.55), begins=3.4)
    with streaming(stub, metadata) as stream:
        stream.show([frame("shop", n, one) for n, one in enumerate(filmed([seen, again], 5))])
        stream.finish()
    assert len(stream.tracks()) == 1
    assert LEFT not in stream.kinds()


def test_who_comes_in_where_another_was_is_a_track_of_his_own(
    stub: Stub,
    metadata: Metadata,
    with_obama: str,
    obama_filmed: Image.Image,
    biden_filmed: Image.Image,
) -> None:
    people = [
        Walker(obama_filmed, standing(0.5), ends=2.0),
        Walker(biden_filmed, standing(0.5), begins=3.4),
    ]
    with streaming(stub, metadata) as stream:
        stream.show([frame("desk", n, one) for n, one in enumerate(filmed(people, 7))])
        stream.finish()
    (known,) = stream.of_kind(RECOGNISED)
    (unknown,) = stream.of_kind(UNKNOWN)
    assert known.track_id != unknown.track_id
    (left,) = stream.of_kind(LEFT)
    assert (left.track_id, left.subject_id) == (known.track_id, with_obama)
    assert not left.HasField("box")


def test_who_is_enrolled_from_a_track_is_recognised_from_then_on(
    stub: Stub, metadata: Metadata, with_obama: str, biden_filmed: Image.Image
) -> None:
    film = filmed([Walker(biden_filmed, standing(0.5))], 8)
    with streaming(stub, metadata) as stream:
        for number, pixels in enumerate(film[:20]):
            stream.show([frame("bar", number, pixels)])
            time.sleep(0.2)  # as the camera does, so that two shots are embedded
        stream.wait(lambda: UNKNOWN in stream.kinds())
        (track,) = stream.tracks()
        ask = camera_pb2.EnrolTrackRequest(track_id=track, subject_id="joe", idempotency_key="k1")
        made = stub.EnrolTrack(ask, metadata=metadata)
        assert made.outcome == gallery_pb2.ENROLMENT_OUTCOME_ENROLLED
        assert made.shots >= 2
        repeated = stub.EnrolTrack(ask, metadata=metadata)
        assert repeated.outcome == gallery_pb2.ENROLMENT_OUTCOME_REPEATED
        assert repeated.template_ids == made.template_ids
        stream.show([frame("bar", 20 + n, one) for n, one in enumerate(film[20:])])
        stream.finish()
    assert [(one.track_id, one.subject_id) for one in stream.of_kind(RECOGNISED)] == [
        (track, "joe")
    ]


def test_a_deleted_subject_is_in_no_track_any_more(
    stub: Stub,
    gallery: GalleryStub,
    metadata: Metadata,
    with_obama: str,
    obama_filmed: Image.Image,
) -> None:
    policy = camera_pb2.CameraPolicy(keep_best_shot_seconds=60)
    stub.SetCameraPolicy(
        camera_pb2.SetCameraPolicyRequest(camera_id="vault", policy=policy), metadata=metadata
    )
    film = filmed([Walker(obama_filmed, standing(0.5))], 6)
    with streaming(stub, metadata) as stream:
        stream.show([frame("vault", n, one) for n, one in enumerate(film[:10])])
        stream.wait(lambda: RECOGNISED in stream.kinds())
        (track,) = stream.tracks()
        kept = stub.GetBestShot(camera_pb2.GetBestShotRequest(track_id=track), metadata=metadata)
        assert kept.image.startswith(b"\xff\xd8")
        assert kept.expires > time.time()
        ask = gallery_pb2.DeleteSubjectRequest(subject_id=with_obama)
        report = gallery.DeleteSubject(ask, metadata=metadata).report
        assert report.verified
        assert report.remaining["tracks"] == 0
        cameras = stub.ListCameras(camera_pb2.ListCamerasRequest(), metadata=metadata).cameras
        assert [one.camera_id for one in cameras] == ["vault"]
        before = len(stream.events)
        stream.show([frame("vault", 10 + n, one) for n, one in enumerate(film[10:])])
        stream.finish()
    assert all(one.subject_id == "" for one in stream.events[before:])
    assert stream.of_kind(UNKNOWN)[-1].reason == camera_pb2.UNKNOWN_REASON_EMPTY_GALLERY
