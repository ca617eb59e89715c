"""An event as plain values, without pictures or vectors: what all outputs tell."""

from __future__ import annotations

from typing import Any

from services.rpc.mien.v1 import camera_pb2, face_pb2

_KIND = "TRACK_EVENT_KIND_"
_REASON = "UNKNOWN_REASON_"
_OPTIONAL = ("similarity", "threshold", "fpir", "margin")


def event_payload(event: camera_pb2.TrackEvent) -> dict[str, Any]:
    """All fields of an event; None where one is absent.

    Returns:
        With lower-case names of kind and reason, boxes in pixels and times in seconds since the
        epoch.
    """
    model = event.model
    return {
        "event": kind_name(event.kind),
        "camera_id": event.camera_id,
        "track_id": event.track_id,
        "frame_id": event.frame_id,
        "captured": event.captured,
        "first_captured": event.first_captured,
        "subject_id": event.subject_id or None,
        "reason": reason_name(event.reason) or None,
        **{name: _optional(event, name) for name in _OPTIONAL},
        "shots": event.shots,
        "box": _box(event.box) if event.HasField("box") else None,
        "best_shot": _best_shot(event.best_shot) if event.HasField("best_shot") else None,
        "model": f"{model.name}@{model.version}" if model.name else None,
        "latency_ms": round(event.latency_ms, 3),
    }


def error_payload(error: camera_pb2.FrameError) -> dict[str, Any]:
    """A frame that could not be used."""
    return {
        "event": "frame_error",
        "camera_id": error.camera_id,
        "frame_id": error.frame_id,
        "code": error.code,
        "detail": error.detail,
        "field": error.field or None,
    }


def kind_name(kind: camera_pb2.TrackEventKind.ValueType) -> str:
    """For example "recognised"."""
    return camera_pb2.TrackEventKind.Name(kind).removeprefix(_KIND).lower()


def reason_name(reason: camera_pb2.UnknownReason.ValueType) -> str:
    """For example "no_match"; empty where there is none."""
    if reason == camera_pb2.UNKNOWN_REASON_UNSPECIFIED:
        return ""
    return camera_pb2.UnknownReason.Name(reason).removeprefix(_REASON).lower()


def _optional(event: camera_pb2.TrackEvent, name: str) -> float | None:
    value: float | None = getattr(event, name) if event.HasField(name) else None  # type: ignore[arg-type]
    return value


def _box(box: face_pb2.Box) -> dict[str, float]:
    return {"x": box.x, "y": box.y, "width": box.width, "height": box.height}


def _best_shot(shot: camera_pb2.BestShot) -> dict[str, Any]:
    return {
        "frame_id": shot.frame_id,
        "captured": shot.captured,
        "quality": round(shot.face.quality.unified, 2),
        "kept": shot.kept,
    }
