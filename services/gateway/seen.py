"""What was seen in one picture, and how it is written down to be kept for a while."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.gateway.detection import Detection
from services.gateway.enhancement import Enhancement, Status
from services.gateway.faces import Face, FaceChoice, Selection
from services.gateway.pipeline import PreparedFace
from services.gateway.pose import Pose
from services.gateway.quality import Quality
from services.modality import Modality
from services.rpc.mien.v1 import model_pb2
from services.telemetry import Stopwatch

Vector = NDArray[np.float32]

FORMAT = 2
"""Changes with what is written, or with what the numbers in it mean."""

_HEAD = struct.Struct("<II")  # bytes of the text, numbers in a vector


@dataclass
class Seen:
    """The faces of one picture.

    Attributes:
        faces: those that are meant; one without a face where there is none.
        done: what was done to each; None where there is no face.
        vectors: rows x dimension float32, one for each face that is there; None before they are
            embedded.
        size: width and height of the upright picture, pixels; zeros where one face was chosen.
        face_count: how many faces the picture shows.
        stopwatch: time by stage.
        about: all that this depends on; empty if it is not to be kept.
        epoch: of the cache when it was looked for there; None likewise.
    """

    faces: list[PreparedFace]
    done: list[Enhancement | None]
    vectors: Vector | None = field(default=None, repr=False)
    size: tuple[int, int] = (0, 0)
    face_count: int = 0
    stopwatch: Stopwatch = field(default_factory=Stopwatch, repr=False)
    about: bytes = field(default=b"", repr=False)
    epoch: bytes | None = field(default=None, repr=False)

    @property
    def vector(self) -> Vector | None:
        """Of the chosen face; None where there is none."""
        return None if self.vectors is None or not len(self.vectors) else self.vectors[0]


def joined(seen: Sequence[Seen]) -> Vector | None:
    """The vectors of all faces in their order, faces x dimension; None where there is no face."""
    rows = [one.vectors for one in seen if one.vectors is not None and len(one.vectors)]
    return np.concatenate(rows) if rows else None


def written(seen: Seen) -> bytes:
    """Writes down embedded faces. No picture is in it, neither theirs nor a synthetic one.

    Args:
        seen: with its vectors.

    Raises:
        ValueError: the faces are not embedded yet.
    """
    if seen.vectors is None:
        raise ValueError("The faces are not embedded yet.")
    told = {
        "size": seen.size,
        "count": seen.face_count,
        "faces": [_face(one) for one in seen.faces],
        "done": [None if one is None else _done(one) for one in seen.done],
    }
    text = json.dumps(told).encode()
    rows = np.ascontiguousarray(seen.vectors, "<f4")
    return _HEAD.pack(len(text), rows.shape[1]) + text + rows.tobytes()


def read(data: bytes) -> Seen:
    """Reads what `written` wrote; the faces come without their crops."""
    length, dimension = _HEAD.unpack_from(data)
    text, rows = data[_HEAD.size : _HEAD.size + length], data[_HEAD.size + length :]
    told: dict[str, Any] = json.loads(text)
    there = sum(one["face"] is not None for one in told["faces"])
    return Seen(
        [_read_face(one) for one in told["faces"]],
        [None if one is None else _read_done(one) for one in told["done"]],
        np.frombuffer(rows, "<f4").reshape(there, dimension).copy(),
        (told["size"][0], told["size"][1]),
        told["count"],
    )


def _face(one: PreparedFace) -> dict[str, Any]:
    told: dict[str, Any] = {
        "choice": [one.choice.selection.value, one.choice.index],
        "count": one.face_count,
        "index": one.face_index,
        "face": None,
    }
    if (face := one.face) is not None:
        told["face"] = {
            "box": [float(value) for value in face.detection.box],
            "points": face.detection.points.tolist(),
            "score": float(face.detection.score),
            "pose": [float(face.pose.yaw), float(face.pose.pitch), float(face.pose.roll)],
            "unified": float(face.quality.unified),
            "components": {name: float(v) for name, v in face.quality.components.items()},
            "modality": face.modality.value,
            "eyes": float(face.inter_eye_distance),
            "side": float(face.native_side),
        }
    return told


def _read_face(told: dict[str, Any]) -> PreparedFace:
    selection, index = told["choice"]
    face = None
    if (given := told["face"]) is not None:
        left, top, width, height = given["box"]
        points = np.array(given["points"], np.float32)
        face = Face(
            Detection((left, top, width, height), points, given["score"]),
            Pose(*given["pose"]),
            Quality(given["unified"], given["components"]),
            Modality(given["modality"]),
            given["eyes"],
            given["side"],
        )
    choice = FaceChoice(Selection(selection), index)
    return PreparedFace(choice, told["count"], told["index"], face, None, None, Stopwatch())


def _done(one: Enhancement) -> dict[str, Any]:
    return {
        "status": one.status.value,
        "eyes": float(one.eyes_px),
        "enhancer": [one.enhancer, one.enhancer_sha256, one.condition],
        "thresholds": [each.SerializeToString().hex() for each in one.thresholds],
    }


def _read_done(told: dict[str, Any]) -> Enhancement:
    enhancer, sha256, condition = told["enhancer"]
    thresholds = [model_pb2.Threshold.FromString(bytes.fromhex(one)) for one in told["thresholds"]]
    return Enhancement(
        Status(told["status"]),
        told["eyes"],
        enhancer,
        sha256,
        condition,
        thresholds=tuple(thresholds),
    )
