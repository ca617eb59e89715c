"""What cameras send and are told, as gRPC messages."""

from __future__ import annotations

import time

from services.cameras.messages import (
    BestShot,
    Box,
    Event,
    Frame,
    FrameFormat,
    FrameOf,
    Kind,
    Message,
    Refusal,
    Report,
    Why,
)
from services.cameras.policy import Policy
from services.cameras.service import CameraInfo
from services.errors import Errors, MienError
from services.gateway.face_messages import enhancement_message, face_message
from services.rpc.mien.v1 import camera_pb2, face_pb2

_FORMATS = {
    camera_pb2.FRAME_FORMAT_UNSPECIFIED: FrameFormat.ENCODED,
    camera_pb2.FRAME_FORMAT_ENCODED: FrameFormat.ENCODED,
    camera_pb2.FRAME_FORMAT_BGR: FrameFormat.BGR,
    camera_pb2.FRAME_FORMAT_NV12: FrameFormat.NV12,
}
_KINDS = {kind: camera_pb2.TrackEventKind.Value(f"TRACK_EVENT_KIND_{kind.name}") for kind in Kind}
_WHYS = {why: camera_pb2.UnknownReason.Value(f"UNKNOWN_REASON_{why.name}") for why in Why}


def frame_of(request: camera_pb2.RecognizeRequest) -> FrameOf:
    """Which frame a message holds, whether it can be used or not."""
    sent = request.frame
    captured = sent.captured or time.time()
    return FrameOf(sent.camera_id, sent.frame_id, captured, time.monotonic())


def frame_input(request: camera_pb2.RecognizeRequest, of: FrameOf) -> Frame:
    """A frame as sent.

    Raises:
        MienError: the message holds none, or one of a format that is not known.
    """
    if not request.HasField("frame"):
        raise MienError(Errors.INVALID_REQUEST, "A frame is needed.", field="frame")
    sent = request.frame
    layout = _FORMATS.get(sent.format)
    if layout is None:
        raise MienError(Errors.INVALID_REQUEST, "This format is not known.", field="frame.format")
    return Frame(of, layout, sent.width, sent.height, sent.content)


def response(message: Message) -> camera_pb2.RecognizeResponse:
    """What the caller is told."""
    match message:
        case Event():
            return camera_pb2.RecognizeResponse(event=_event(message))
        case Report():
            return camera_pb2.RecognizeResponse(report=_report(message))
        case Refusal():
            return camera_pb2.RecognizeResponse(error=_refusal(message))


def best_shot_message(best: BestShot) -> camera_pb2.BestShot:
    """The best shot of a track."""
    done = best.enhancement
    return camera_pb2.BestShot(
        frame_id=best.of.frame_id,
        captured=best.of.captured,
        face=face_message(best.face),
        enhancement=None if done is None else enhancement_message(done),
        kept=best.kept,
    )


def policy_fields(policy: camera_pb2.CameraPolicy) -> dict[str, object]:
    """The fields that a caller set."""
    given: dict[str, object] = {
        "region": tuple((point.x, point.y) for point in policy.region),
        "watch_list": dict(policy.watch_list),
        "enhance": not policy.no_enhancement,
    }
    for name in (
        "min_inter_eye_distance",
        "fpir",
        "cool_down_seconds",
        "keep_best_shot_seconds",
        "keep_track_seconds",
    ):
        if policy.HasField(name):
            given[name] = getattr(policy, name)
    return given


def policy_message(policy: Policy) -> camera_pb2.CameraPolicy:
    """A policy with all fields set."""
    return camera_pb2.CameraPolicy(
        region=[face_pb2.Point(x=x, y=y) for x, y in policy.region],
        min_inter_eye_distance=policy.min_inter_eye_distance,
        fpir=policy.fpir,
        watch_list=dict(policy.watch_list),
        cool_down_seconds=policy.cool_down_seconds,
        keep_best_shot_seconds=policy.keep_best_shot_seconds,
        keep_track_seconds=policy.keep_track_seconds,
        no_enhancement=not policy.enhance,
    )


def camera_message(camera: CameraInfo) -> camera_pb2.Camera:
    """A camera."""
    return camera_pb2.Camera(
        camera_id=camera.camera_id,
        policy=policy_message(camera.policy),
        connected=camera.connected,
        frames=camera.frames,
        dropped=camera.dropped,
        tracks=camera.tracks,
    )


def _event(event: Event) -> camera_pb2.TrackEvent:
    box = None if event.box is None else _box(event.box)
    return camera_pb2.TrackEvent(
        kind=_KINDS[event.kind],
        camera_id=event.of.camera_id,
        track_id=event.track_id,
        frame_id=event.of.frame_id,
        captured=event.of.captured,
        box=box,
        best_shot=None if event.best is None else best_shot_message(event.best),
        subject_id=event.subject_id,
        similarity=event.similarity,
        threshold=event.threshold,
        fpir=event.fpir,
        margin=event.margin,
        reason=camera_pb2.UNKNOWN_REASON_UNSPECIFIED if event.why is None else _WHYS[event.why],
        model=event.model,
        shots=event.shots,
        first_captured=event.first_captured,
        latency_ms=event.seconds * 1e3,
    )


def _report(report: Report) -> camera_pb2.FrameReport:
    return camera_pb2.FrameReport(
        camera_id=report.of.camera_id,
        frame_id=report.of.frame_id,
        captured=report.of.captured,
        faces=report.faces,
        dropped=report.dropped,
        waiting=report.waiting,
        timing_ms=report.timing_ms,
        tracks=[
            camera_pb2.TrackedFace(track_id=track_id, box=_box(box))
            for track_id, box in report.tracks
        ],
    )


def _box(box: Box) -> face_pb2.Box:
    x, y, width, height = box
    return face_pb2.Box(x=x, y=y, width=width, height=height)


def _refusal(refusal: Refusal) -> camera_pb2.FrameError:
    return camera_pb2.FrameError(
        camera_id=refusal.of.camera_id,
        frame_id=refusal.of.frame_id,
        code=refusal.error.kind.code,
        detail=refusal.error.detail,
        field=refusal.error.field or "",
    )
