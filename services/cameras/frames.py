"""From the bytes of a frame to pixels and the faces in them."""

from __future__ import annotations

import math
import re
import time
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from services.cameras.messages import Frame, FrameFormat
from services.cameras.policy import Policy
from services.errors import Errors, MienError
from services.gateway.detection import Detection
from services.gateway.imaging import ImageLimits
from services.gateway.pipeline import PicturePipeline
from services.settings import CameraSettings

Pixels = NDArray[np.uint8]

_CAMERA_ID = re.compile(r"[0-9A-Za-z._-]{1,128}")
_LONGEST_FRAME_ID = 256
_LEAST_SIDE = 16
# Share of the least distance of the eyes down to which a face is followed on: somebody who stands
# at the limit would otherwise leave and appear again and again.
_STILL_FOLLOWED = 0.7
_EYES_IN_PASS = 8.0  # pixels between the eyes that the detector needs to find a face safely
_SMALLEST_PASS = 320  # pixels of the longer side that is searched
_LENIENT_SCORE = 0.4  # of a face that is followed already


@dataclass(frozen=True)
class SeenFrame:
    """A frame that was searched.

    Attributes:
        pixels: height x width x 3, RGB, 0-255.
        faces: of the policy's region and size.
        decode_ms: time of decoding.
        detect_ms: time of detection.
    """

    pixels: Pixels
    faces: list[Detection]
    decode_ms: float
    detect_ms: float


def checked_camera_id(camera_id: str, field: str = "camera_id") -> str:
    """A camera's id.

    Raises:
        MienError: it is not valid.
    """
    if not _CAMERA_ID.fullmatch(camera_id):
        raise MienError(
            Errors.INVALID_REQUEST,
            "A camera's id is 1 to 128 letters, digits, '.', '_' and '-'.",
            field=field,
        )
    return camera_id


def check_frame(frame: Frame, limits: CameraSettings) -> None:
    """Refuses a frame by what is told of it, before any of its pixels is looked at.

    Raises:
        MienError: names the field at fault.
    """
    checked_camera_id(frame.of.camera_id, "frame.camera_id")
    if len(frame.of.frame_id) > _LONGEST_FRAME_ID:
        raise _invalid("frame_id", f"A frame's id has at most {_LONGEST_FRAME_ID} characters.")
    if not math.isfinite(frame.of.captured) or frame.of.captured < 0:
        raise _invalid("captured", "The time is in seconds since the epoch.")
    if not frame.content:
        raise MienError(Errors.IMAGE_EMPTY, "The frame is empty.", field="frame.content")
    if len(frame.content) > limits.max_frame_bytes:
        raise MienError(
            Errors.IMAGE_TOO_MANY_BYTES,
            f"At most {limits.max_frame_bytes} bytes are accepted.",
            field="frame.content",
        )
    if frame.format is not FrameFormat.ENCODED:
        _check_raw(frame, limits)


def see(
    frame: Frame, pipeline: PicturePipeline, policy: Policy, limits: CameraSettings
) -> SeenFrame:
    """Decodes a frame and finds the faces that the policy means.

    Args:
        frame: checked.
        pipeline: decodes and detects.
        policy: of the camera.
        limits: of an encoded frame's pixels.

    Raises:
        MienError: the bytes are no picture.
    """
    start = time.perf_counter()
    pixels = _pixels(frame, pipeline, limits)
    decoded = time.perf_counter()
    found = pipeline.detect_once(pixels, pass_scale(pixels, policy), _LENIENT_SCORE)
    height, width = pixels.shape[:2]
    faces = [face for face in found if wanted(face, policy, width, height)]
    done = time.perf_counter()
    return SeenFrame(pixels, faces, (decoded - start) * 1e3, (done - decoded) * 1e3)


def pass_scale(pixels: Pixels, policy: Policy) -> float:
    """At which scale a frame is searched: as small as the smallest face that is meant allows."""
    longer = max(pixels.shape[:2])
    needed: float = max(_EYES_IN_PASS / policy.min_inter_eye_distance, _SMALLEST_PASS / longer)
    return min(1.0, needed)


def wanted(face: Detection, policy: Policy, width: int, height: int) -> bool:
    """Whether a face is large enough to be followed on, and its middle in the policy's region.

    Args:
        face: of a frame.
        policy: of the camera.
        width: of the frame, pixels.
        height: likewise.
    """
    if eye_distance(face) < policy.min_inter_eye_distance * _STILL_FOLLOWED:
        return False
    if not policy.region:
        return True
    x, y, across, down = face.box
    middle = ((x + across / 2) / width, (y + down / 2) / height)
    region = np.array(policy.region, np.float32)
    return bool(cv2.pointPolygonTest(region, middle, measureDist=False) >= 0)


def is_large(face: Detection, policy: Policy) -> bool:
    """Whether a face is large enough to begin a track, and to be compared with the gallery."""
    return eye_distance(face) >= policy.min_inter_eye_distance


def eye_distance(face: Detection) -> float:
    """Pixels between the eyes."""
    across, down = face.points[1] - face.points[0]
    return math.hypot(across, down)


def _check_raw(frame: Frame, limits: CameraSettings) -> None:
    for name, side in (("width", frame.width), ("height", frame.height)):
        if side < _LEAST_SIDE:
            raise _invalid(name, f"A side has at least {_LEAST_SIDE} pixels.")
        if frame.format is FrameFormat.NV12 and side % 2:
            raise _invalid(name, "Width and height of an NV12 frame are even.")
    pixels = frame.width * frame.height
    if pixels > limits.max_frame_pixels:
        raise MienError(
            Errors.IMAGE_TOO_MANY_PIXELS,
            f"At most {limits.max_frame_pixels} pixels are accepted.",
            field="frame.width",
        )
    needed = pixels * 3 if frame.format is FrameFormat.BGR else pixels * 3 // 2
    if len(frame.content) != needed:
        raise _invalid("content", f"A frame of this format and size has {needed} bytes.")


def _pixels(frame: Frame, pipeline: PicturePipeline, limits: CameraSettings) -> Pixels:
    if frame.format is FrameFormat.ENCODED:
        most = ImageLimits(limits.max_frame_bytes, limits.max_frame_pixels)
        return pipeline.decode(frame.content, "frame.content", most)
    raw = np.frombuffer(frame.content, np.uint8)
    if frame.format is FrameFormat.BGR:
        bgr = raw.reshape(frame.height, frame.width, 3)
        return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)
    return _rgb_of_nv12(raw, frame.width, frame.height)


def _rgb_of_nv12(raw: Pixels, width: int, height: int) -> Pixels:
    """Full-range NV12; OpenCV's own conversion takes its luma as 16 to 235."""
    luma = raw[: width * height].reshape(height, width)
    chroma = raw[width * height :].reshape(height // 2, width // 2, 2)
    large = cv2.resize(chroma, (width, height), interpolation=cv2.INTER_LINEAR)
    # OpenCV's YCrCb is full-range, with the two chromas the other way round.
    merged = np.dstack([luma, large[..., 1], large[..., 0]])
    return np.asarray(cv2.cvtColor(merged, cv2.COLOR_YCrCb2RGB), np.uint8)


def _invalid(field: str, detail: str) -> MienError:
    return MienError(Errors.INVALID_REQUEST, detail, field=f"frame.{field}")
