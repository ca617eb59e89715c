"""What was seen in a picture is read back exactly as it was written down."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from services.gateway.detection import Detection
from services.gateway.enhancement import Enhancement, Status
from services.gateway.faces import Face, FaceChoice, Selection
from services.gateway.pipeline import PreparedFace
from services.gateway.pose import Pose
from services.gateway.quality import Quality
from services.gateway.seen import Seen, joined, read, written
from services.modality import Modality
from services.rpc.mien.v1 import model_pb2
from services.telemetry import Stopwatch

_RANDOM = np.random.default_rng(3)
_PIXELS = np.full((112, 112, 3), 200, np.uint8)


def face(index: int) -> PreparedFace:
    left, top, width, height = _RANDOM.random(4)
    points = (_RANDOM.random((5, 2)) * 1000 / 3).astype(np.float32)
    measured = Face(
        Detection((left, top, width, height), points, 0.1 + 0.2),
        Pose(1 / 3, -2 / 7, 1e-9),
        Quality(71.3, {"sharpness": 2 / 3, "light": 99.0}),
        Modality.NEAR_INFRARED_OR_GREY,
        np.float64(41.7),
        55.5,
    )
    choice = FaceChoice(Selection.INDEX, index)
    return PreparedFace(choice, 3, index, measured, _PIXELS, _PIXELS, Stopwatch())


def test_faces_vectors_and_what_was_done_to_them_come_back_exactly() -> None:
    fitted = model_pb2.Threshold(fmr=1e-3, similarity=1 / 3, interval_low=0.1, interval_high=0.9)
    mended = Enhancement(
        Status.APPLIED, 20 / 3, "ddat@1", "ab" * 32, "low_resolution", _PIXELS, (fitted,)
    )
    plain = Enhancement(Status.NOT_NEEDED, 80.0)
    vectors = _RANDOM.standard_normal((2, 512)).astype(np.float32)
    seen = Seen([face(0), face(1)], [mended, plain], vectors, (640, 480), 3)
    again = read(written(seen))
    assert (again.size, again.face_count) == (seen.size, 3)
    assert again.vectors is not None
    np.testing.assert_array_equal(again.vectors, vectors)
    assert again.done == [dataclasses.replace(mended, picture=None), plain]
    for before, after in zip(seen.faces, again.faces, strict=True):
        assert (after.choice, after.face_count, after.face_index) == (
            before.choice,
            before.face_count,
            before.face_index,
        )
        assert before.face is not None
        assert after.face is not None
        old, new = before.face.detection, after.face.detection
        np.testing.assert_array_equal(new.points, old.points)
        assert new.points.dtype == old.points.dtype
        assert (new.box, new.score) == (old.box, old.score)
        assert dataclasses.replace(after.face, detection=old) == before.face


def test_no_picture_is_written_down() -> None:
    seen = Seen([face(0)], [None], np.zeros((1, 4), np.float32))
    assert _PIXELS.tobytes()[:16] not in written(seen)
    (again,) = read(written(seen)).faces
    assert again.crop is None
    assert again.measured is None


def test_a_picture_without_a_face_comes_back_as_one() -> None:
    nobody = PreparedFace.missing(FaceChoice(Selection.REFUSE))
    seen = Seen([nobody], [None], np.empty((0, 0), np.float32), face_count=2)
    again = read(written(seen))
    assert again.faces[0].face is None
    assert again.faces[0].choice.selection is Selection.REFUSE
    assert again.vector is None
    assert joined([again]) is None


def test_faces_are_not_written_down_before_they_are_embedded() -> None:
    with pytest.raises(ValueError, match="not embedded"):
        written(Seen([face(0)], [None]))
