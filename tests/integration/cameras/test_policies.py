"""Policies of cameras, night and distance, and what is kept of people."""

from __future__ import annotations

import time
from pathlib import Path

import cv2
import grpc
import numpy as np
import pytest
from PIL import Image

from services.rpc.mien.v1 import camera_pb2, camera_pb2_grpc, face_pb2, gallery_pb2_grpc
from tests.integration.cameras.conftest import enrol
from tests.integration.cameras.film import (
    LEFT,
    RECOGNISED,
    UNKNOWN,
    Metadata,
    Stream,
    Walker,
    filmed,
    frame,
    standing,
    streaming,
)
from tests.integration.harness import RichError, rich_error
from tests.integration.pictures import portrait

Stub = camera_pb2_grpc.CameraServiceStub
GalleryStub = gallery_pb2_grpc.GalleryServiceStub
Policy = camera_pb2.CameraPolicy


def set_policy(stub: Stub, metadata: Metadata, camera: str, policy: Policy) -> Policy:
    ask = camera_pb2.SetCameraPolicyRequest(camera_id=camera, policy=policy)
    return stub.SetCameraPolicy(ask, metadata=metadata).policy


def watched(
    stub: Stub, metadata: Metadata, camera: str, walkers: list[Walker], seconds: float = 2.0
) -> Stream:
    with streaming(stub, metadata) as stream:
        stream.show([frame(camera, n, one) for n, one in enumerate(filmed(walkers, seconds))])
        stream.finish()
    return stream


def refused(stub: Stub, metadata: Metadata, camera: str, policy: Policy) -> RichError:
    with pytest.raises(grpc.RpcError) as caught:
        set_policy(stub, metadata, camera, policy)
    return rich_error(caught.value)


def test_a_policy_is_told_with_all_its_fields_and_a_wrong_one_is_refused(
    stub: Stub, metadata: Metadata
) -> None:
    ask = camera_pb2.GetCameraPolicyRequest(camera_id="new")
    default = stub.GetCameraPolicy(ask, metadata=metadata).policy
    assert default.fpir == 0.01
    assert default.HasField("keep_best_shot_seconds")
    told = set_policy(stub, metadata, "new", Policy(fpir=0.05))
    assert (told.fpir, told.keep_track_seconds) == (0.05, default.keep_track_seconds)
    wrong = {
        "policy.fpir": Policy(fpir=1.5),
        "policy.cool_down_seconds": Policy(cool_down_seconds=-1),
        "policy.keep_track_seconds": Policy(keep_track_seconds=float("nan")),
        "policy.region": Policy(region=[face_pb2.Point(x=0.5, y=0.5)]),
    }
    for field, policy in wrong.items():
        assert refused(stub, metadata, "new", policy).fields == [field]
    outside = Policy(region=[face_pb2.Point(x=x, y=0.5) for x in (0, 1, 2)])
    assert refused(stub, metadata, "new", outside).fields == ["policy.region"]
    assert refused(stub, metadata, "a b", Policy()).fields == ["camera_id"]
    assert stub.GetCameraPolicy(ask, metadata=metadata).policy.fpir == 0.05


def test_only_faces_in_the_region_and_large_enough_are_followed(
    stub: Stub, metadata: Metadata, obama_filmed: Image.Image, biden_filmed: Image.Image
) -> None:
    people = [Walker(obama_filmed, standing(0.25)), Walker(biden_filmed, standing(0.75))]
    right = [face_pb2.Point(x=x, y=y) for x, y in ((0.5, 0), (1, 0), (1, 1), (0.5, 1))]
    set_policy(stub, metadata, "half", Policy(region=right))
    stream = watched(stub, metadata, "half", people)
    assert len(stream.tracks()) == 1
    assert all(one.box.x > 320 for one in stream.events)
    set_policy(stub, metadata, "near", Policy(min_inter_eye_distance=200))
    assert not watched(stub, metadata, "near", people).events


def test_only_subjects_of_the_watch_list_are_named(
    stub: Stub,
    gallery: GalleryStub,
    metadata: Metadata,
    portraits: Path,
    obama_filmed: Image.Image,
    biden_filmed: Image.Image,
) -> None:
    enrol(gallery, metadata, "guest", portrait(portraits, "obama.jpg"), role="guest", door="n")
    enrol(gallery, metadata, "staff", biden_filmed, role="staff")
    people = [Walker(obama_filmed, standing(0.25)), Walker(biden_filmed, standing(0.75))]
    set_policy(stub, metadata, "lobby", Policy(watch_list={"role": "guest"}))
    stream = watched(stub, metadata, "lobby", people)
    assert [one.subject_id for one in stream.of_kind(RECOGNISED)] == ["guest"]
    (other,) = stream.of_kind(UNKNOWN)
    assert (other.subject_id, other.reason) == ("", camera_pb2.UNKNOWN_REASON_NO_MATCH)
    strict = Policy(watch_list={"role": "guest", "door": "s"})
    set_policy(stub, metadata, "side", strict)
    assert not watched(stub, metadata, "side", people).of_kind(RECOGNISED)


def test_a_subject_is_not_told_again_within_the_cool_down(
    stub: Stub, metadata: Metadata, with_obama: str, obama_filmed: Image.Image
) -> None:
    def visits(camera: str) -> Stream:
        return watched(
            stub,
            metadata,
            camera,
            [
                Walker(obama_filmed, standing(0.2), ends=2.0),
                Walker(obama_filmed, standing(0.8), begins=6.0, ends=8.0),
            ],
            12.0,
        )

    plain = visits("plain")
    assert [one.subject_id for one in plain.of_kind(RECOGNISED)] == [with_obama] * 2
    set_policy(stub, metadata, "cool", Policy(cool_down_seconds=60))
    cool = visits("cool")
    assert [one.subject_id for one in cool.of_kind(RECOGNISED)] == [with_obama]
    assert len(cool.of_kind(LEFT)) == 2


def test_a_best_shot_is_kept_on_request_only_and_expires(
    stub: Stub, metadata: Metadata, obama_filmed: Image.Image
) -> None:
    people = [Walker(obama_filmed, standing(0.5))]
    stream = watched(stub, metadata, "silent", people)
    ask = camera_pb2.GetBestShotRequest(track_id=stream.tracks().pop())
    with pytest.raises(grpc.RpcError) as caught:
        stub.GetBestShot(ask, metadata=metadata)
    assert rich_error(caught.value).reason == "SHOT_NOT_KEPT"
    set_policy(stub, metadata, "album", Policy(keep_best_shot_seconds=2))
    stream = watched(stub, metadata, "album", people)
    assert stream.of_kind(UNKNOWN)[0].best_shot.kept
    ask = camera_pb2.GetBestShotRequest(track_id=stream.tracks().pop())
    kept = stub.GetBestShot(ask, metadata=metadata)
    picture = cv2.imdecode(np.frombuffer(kept.image, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    assert picture.shape[1] > kept.shot.face.box.width
    with pytest.raises(grpc.RpcError):
        stub.GetBestShot(ask, metadata=(("x-mien-tenant", "somebody-else"),))
    time.sleep(2.2)
    with pytest.raises(grpc.RpcError):
        stub.GetBestShot(ask, metadata=metadata)


def test_a_far_face_is_enhanced_recognised_and_never_enrolled(
    stub: Stub, metadata: Metadata, with_obama: str, obama_filmed: Image.Image
) -> None:
    far = [Walker(obama_filmed, standing(0.5), height=30)]
    set_policy(stub, metadata, "far", Policy(min_inter_eye_distance=4))
    stream = watched(stub, metadata, "far", far, 3.0)
    shots = [one.best_shot for one in stream.events if one.best_shot.frame_id]
    applied = face_pb2.ENHANCEMENT_STATUS_APPLIED
    assert shots[-1].enhancement.status == applied
    assert shots[-1].enhancement.enhancer.startswith("ddat@")
    assert shots[-1].enhancement.image == b""
    (track,) = stream.tracks()
    ask = camera_pb2.EnrolTrackRequest(track_id=track, subject_id="far")
    assert stub.EnrolTrack(ask, metadata=metadata).shots == 0
    set_policy(stub, metadata, "as-is", Policy(min_inter_eye_distance=4, no_enhancement=True))
    plain = watched(stub, metadata, "as-is", far, 3.0)
    told = [one.best_shot for one in plain.events if one.best_shot.frame_id]
    assert told[-1].enhancement.status == face_pb2.ENHANCEMENT_STATUS_OFF


def test_a_camera_without_colours_recognises_at_night(
    stub: Stub, metadata: Metadata, with_obama: str, obama_filmed: Image.Image
) -> None:
    people = [Walker(obama_filmed.convert("L").convert("RGB"), standing(0.5))]
    grey = [np.repeat(one[..., :1], 3, axis=2) for one in filmed(people, 2)]
    with streaming(stub, metadata) as stream:
        stream.show([frame("night", n, one) for n, one in enumerate(grey)])
        stream.finish()
    (known,) = stream.of_kind(RECOGNISED)
    assert known.subject_id == with_obama
    near_infrared = face_pb2.MODALITY_NEAR_INFRARED_OR_GREY
    assert known.best_shot.face.modality == near_infrared


def test_who_turns_away_or_is_blurred_is_unknown_for_that_reason(
    stub: Stub, metadata: Metadata, with_obama: str, obama_filmed: Image.Image
) -> None:
    frames = filmed([Walker(obama_filmed, standing(0.5), height=200)], 3)
    blurred = [cv2.GaussianBlur(one, (0, 0), 9) for one in frames]
    with streaming(stub, metadata) as stream:
        stream.show([frame("fog", n, one) for n, one in enumerate(blurred)])
        stream.finish()
    assert {one.reason for one in stream.of_kind(UNKNOWN)} <= {
        camera_pb2.UNKNOWN_REASON_POOR_QUALITY,
        camera_pb2.UNKNOWN_REASON_NO_MATCH,
        camera_pb2.UNKNOWN_REASON_NOT_CONFIRMED,
    }
