"""Tracks drawn into the pictures that they were seen in."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from services.rpc.mien.v1 import camera_pb2
from services.watch.payload import kind_name, reason_name

Pixels = NDArray[np.uint8]

_KNOWN, _UNKNOWN, _OPEN = (80, 200, 80), (60, 60, 230), (200, 200, 200)  # BGR
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_ID_LENGTH = 8  # of a track's id, as much as tells two apart on a screen


class Tracks:
    """What was told of the tracks of one camera: where they were last, and who they are."""

    def __init__(self) -> None:
        self._seen: dict[str, camera_pb2.TrackEvent] = {}

    def take(self, event: camera_pb2.TrackEvent) -> None:
        """Notes an event."""
        if event.kind == camera_pb2.TRACK_EVENT_KIND_LEFT:
            self._seen.pop(event.track_id, None)
            return
        before = self._seen.get(event.track_id)
        kept = camera_pb2.TrackEvent()
        kept.CopyFrom(event)
        if before is not None and not event.HasField("box") and before.HasField("box"):
            kept.box.CopyFrom(before.box)
            kept.frame_id = before.frame_id
        self._seen[event.track_id] = kept

    def see(self, report: camera_pb2.FrameReport) -> None:
        """Notes where tracks are in a frame."""
        for face in report.tracks:
            known = self._seen.get(face.track_id)
            if known is not None:
                known.box.CopyFrom(face.box)
                known.frame_id = report.frame_id

    def drawn(self, picture: Pixels, frame_id: str) -> Pixels:
        """A copy of a picture with boxes, track ids, subjects and reasons.

        A box is thin where the face was seen in an earlier frame and is not found in this one.

        Args:
            picture: height x width x 3, BGR, 0-255.
            frame_id: the picture's.
        """
        made = picture.copy()
        for track_id, event in self._seen.items():
            if event.HasField("box"):
                _draw(made, track_id, event, thickness=2 if event.frame_id == frame_id else 1)
        return made


def label(track_id: str, event: camera_pb2.TrackEvent) -> str:
    """What stands at a box."""
    if event.subject_id:
        who = event.subject_id
        if event.HasField("similarity"):
            who += f" {event.similarity:.2f}"
    else:
        who = reason_name(event.reason) or kind_name(event.kind)
    return f"{track_id[-_ID_LENGTH:]} {who}"


def _draw(picture: Pixels, track_id: str, event: camera_pb2.TrackEvent, thickness: int) -> None:
    decided = event.kind != camera_pb2.TRACK_EVENT_KIND_APPEARED
    colour = _KNOWN if event.subject_id else _UNKNOWN if decided else _OPEN
    box = event.box
    left, top = round(box.x), round(box.y)
    right, bottom = round(box.x + box.width), round(box.y + box.height)
    cv2.rectangle(picture, (left, top), (right, bottom), colour, thickness, cv2.LINE_AA)
    text = label(track_id, event)
    (_, height), base = cv2.getTextSize(text, _FONT, 0.45, 1)
    line = top - base if top - base > height else bottom + height + base
    place = (max(left, 0), line)
    cv2.putText(picture, text, place, _FONT, 0.45, (0, 0, 0), 3, cv2.LINE_AA)
    cv2.putText(picture, text, place, _FONT, 0.45, colour, 1, cv2.LINE_AA)
