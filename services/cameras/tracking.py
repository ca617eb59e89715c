"""Which face of a frame is which face of the frames before: ByteTrack on enlarged boxes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.gateway.detection import Detection

# A walking face moves by more than its own width between two frames of a slow camera, so boxes are
# compared after they were enlarged about their centre.
_ENLARGED = 3.0
# Boxes are followed in a picture of this size, so that a camera may change its resolution.
_WIDTH, _HEIGHT = 640.0, 480.0
_TICK = 0.04  # seconds; the library moves its tracks on by frames, Mien by time
_CONFIRMING = 2  # sightings before a face is followed
_LEAST_OVERLAP = 0.08  # of enlarged boxes
_NEAR = 0.12  # overlap of enlarged boxes from which two faces may be taken for each other


class FaceTracker:
    """Follows the faces of one camera.

    Args:
        min_score: detector score from which a face begins a track; lower ones only go on with one.
        seconds: for which a track is looked for where it should have moved to.
    """

    def __init__(self, min_score: float, seconds: float) -> None:
        tracker, self._detections = library()
        self._tracker = tracker(
            lost_track_buffer=max(1, round(seconds / _TICK)),
            frame_rate=30.0,  # of 30, so that the buffer counts ticks
            track_activation_threshold=min_score,
            minimum_consecutive_frames=_CONFIRMING,
            minimum_iou_threshold=_LEAST_OVERLAP,
            high_conf_det_threshold=min_score,
        )
        self._most_ticks = max(1, round(seconds / _TICK)) - 1

    def update(
        self,
        faces: Sequence[Detection],
        width: int,
        height: int,
        elapsed: float,
        beginning: Sequence[bool],
    ) -> list[int | None]:
        """Moves on to a frame.

        Args:
            faces: of the frame.
            width: of the frame, pixels.
            height: likewise.
            elapsed: seconds since the frame before.
            beginning: for each face, whether it may begin a track; others only go on with one.

        Returns:
            For each face the number of its track; None while it has none.
        """
        for _ in range(min(max(1, round(elapsed / _TICK)) - 1, self._most_ticks)):
            for track in self._tracker.tracks:
                track.predict()
        numbers: list[int | None] = [None] * len(faces)
        given = self._detections(
            xyxy=enlarged(faces, width, height),
            # The library gives faces of low confidence what the others have left of the tracks.
            confidence=np.array([face.score for face in faces], np.float32)
            * np.array(beginning, np.float32),
            data={"place": np.arange(len(faces))},
        )
        found = self._tracker.update(given)
        if len(found):
            for place, number in zip(found.data["place"], found.tracker_id, strict=True):
                numbers[int(place)] = int(number) if number >= 0 else None
        return numbers


def enlarged(faces: Sequence[Detection], width: int, height: int) -> NDArray[np.float32]:
    """Boxes as they are compared.

    Args:
        faces: of a frame.
        width: of the frame, pixels.
        height: likewise.

    Returns:
        N x 4: left, top, right, bottom.
    """
    if not faces:
        return np.zeros((0, 4), np.float32)
    boxes = np.array([face.box for face in faces], np.float32)
    boxes *= np.array([_WIDTH / width, _HEIGHT / height] * 2, np.float32)
    centres, halves = boxes[:, :2] + boxes[:, 2:] / 2, boxes[:, 2:] * (_ENLARGED / 2)
    return np.concatenate([centres - halves, centres + halves], axis=1)


def near_each_other(boxes: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which of these enlarged boxes another of them could be taken for.

    Args:
        boxes: N x 4, from `enlarged`.
    """
    if len(boxes) < 2:
        return np.zeros(len(boxes), np.bool_)
    low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    common = np.clip(high - low, 0, None).prod(axis=2)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    shares = common / (areas[:, None] + areas[None] - common)
    np.fill_diagonal(shares, 0.0)
    near: NDArray[np.bool_] = shares.max(axis=1) >= _NEAR
    return near


def library() -> tuple[Any, Any]:
    """The tracker and its type of detections; loading them takes a second, so it is done late."""
    from supervision import Detections  # noqa: PLC0415 - see above
    from trackers.core.bytetrack.tracker import ByteTrackTracker  # noqa: PLC0415

    return ByteTrackTracker, Detections
