"""gRPC as a camera sees it: the same answers as REST, and rich errors."""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import cv2
import grpc
import numpy as np
import pytest

from services.errors import Errors, MienError
from services.gateway.core import Gateway
from services.rpc.mien.v1 import face_pb2, face_pb2_grpc, model_pb2
from tests.hostile import encoded, gradient
from tests.integration.harness import (
    Mien,
    code_of,
    rich_error,
)
from tests.integration.pictures import faceless, jpeg, portrait, side_by_side

_VERIFY = "mien.v1.FaceService"


@pytest.fixture(scope="module")
def stub(mien: Mien) -> Iterator[face_pb2_grpc.FaceServiceStub]:
    with mien.faces() as made:
        yield made


@pytest.fixture(scope="module")
def light(weightless_mien: Mien) -> Iterator[face_pb2_grpc.FaceServiceStub]:
    with weightless_mien.faces() as made:
        yield made


@pytest.fixture(scope="module")
def both(portraits: Path) -> bytes:
    small, large = portrait(portraits, "biden.jpg", 300), portrait(portraits, "obama2.jpg", 480)
    return jpeg(side_by_side(small, large))


def asked(probe: bytes, *references: bytes, **fields: Any) -> face_pb2.VerifyRequest:
    return face_pb2.VerifyRequest(
        probe=face_pb2.Image(content=probe),
        references=[face_pb2.Image(content=reference) for reference in references],
        **fields,
    )


def refusal(stub: face_pb2_grpc.FaceServiceStub, request: face_pb2.VerifyRequest) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as caught:
        stub.Verify(request)
    return caught.value


# --- answers ------------------------------------------------------------------------------------


def test_verify_answers_as_rest_does(
    mien: Mien, stub: face_pb2_grpc.FaceServiceStub, obama: bytes, obama2: bytes, biden: bytes
) -> None:
    references = [obama2, biden, faceless()]
    answer = stub.Verify(asked(obama, *references))
    given = [("probe", ("p", obama)), *(("reference", ("r", data)) for data in references)]
    with mien.client() as client:
        rest = client.post("/v1/verify", files=given).json()
    assert [result.decision for result in answer.results] == [
        face_pb2.DECISION_SAME,
        face_pb2.DECISION_DIFFERENT,
        face_pb2.DECISION_INCONCLUSIVE,
    ]
    for mine, theirs in zip(answer.results, rest["results"], strict=True):
        name = face_pb2.Decision.Name(mine.decision).removeprefix("DECISION_").lower()
        assert name == theirs["decision"]
        if theirs["similarity"] is None:
            assert not mine.HasField("similarity")
        else:
            assert mine.similarity == pytest.approx(theirs["similarity"], abs=1e-6)
    assert list(answer.results[2].reasons) == [face_pb2.REASON_NO_FACE_IN_REFERENCE]
    assert not answer.results[2].reference.HasField("face")
    assert answer.threshold == pytest.approx(rest["threshold"], abs=1e-6)
    assert answer.fmr == rest["fmr"] == 1e-3
    assert answer.model.weights_sha256 == rest["model"]["weights_sha256"]
    assert answer.model.preprocessing_sha256 == rest["model"]["preprocessing_sha256"]
    assert answer.model.origin == model_pb2.VECTOR_ORIGIN_NATIVE
    assert set(answer.timing_ms) == set(rest["timing_ms"])
    _same_face(answer.probe.face, rest["probe"]["face"])


def test_the_aligned_faces_are_shown_on_request_alone(
    mien: Mien, stub: face_pb2_grpc.FaceServiceStub, obama: bytes
) -> None:
    answer = stub.Verify(asked(obama, faceless(), include=[face_pb2.INCLUDE_ALIGNED]))
    picture = cv2.imdecode(np.frombuffer(answer.probe.aligned, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    assert picture.shape == (112, 112, 3)
    assert answer.results[0].reference.aligned == b""
    given = [("probe", ("p", obama)), ("reference", ("r", faceless()))]
    with mien.client() as client:
        rest = client.post("/v1/verify", files=given, data={"include": "aligned"}).json()
        plain = client.post("/v1/verify", files=given).json()
    assert base64.b64decode(rest["probe"]["aligned"]) == answer.probe.aligned
    assert rest["reference"]["aligned"] is None
    assert plain["probe"]["aligned"] is None
    assert stub.Verify(asked(obama, faceless())).probe.aligned == b""


def test_detect_answers_as_rest_does(
    mien: Mien, stub: face_pb2_grpc.FaceServiceStub, both: bytes
) -> None:
    answer = stub.Detect(face_pb2.DetectRequest(content=both))
    with mien.client() as client:
        rest = client.post("/v1/detect", files={"image": both}).json()
    assert (answer.width, answer.height) == (rest["width"], rest["height"]) == (780, 480)
    assert len(answer.faces) == rest["face_count"] == 2
    for mine, theirs in zip(answer.faces, rest["faces"], strict=True):
        _same_face(mine, theirs)


def _same_face(mine: face_pb2.Face, theirs: dict[str, Any]) -> None:
    for name, value in theirs["box"].items():
        assert getattr(mine.box, name) == pytest.approx(value, abs=0.006)
    for point, other in zip(mine.points, theirs["points"], strict=True):
        assert (point.x, point.y) == pytest.approx((other["x"], other["y"]), abs=0.006)
    for name, value in theirs["pose"].items():
        assert getattr(mine.pose, name) == pytest.approx(value, abs=0.06)
    assert mine.quality.unified == pytest.approx(theirs["quality"]["unified"], abs=0.06)
    assert set(mine.quality.components) == set(theirs["quality"]["components"])
    assert mine.modality == face_pb2.MODALITY_VISIBLE
    assert theirs["modality"] == "visible"


def test_the_operating_point_is_the_callers_choice(
    stub: face_pb2_grpc.FaceServiceStub, obama: bytes, obama2: bytes
) -> None:
    answer = stub.Verify(asked(obama, obama2, fmr=1e-4, model="poseface@1"))
    assert answer.fmr == 1e-4
    strict = answer.threshold
    assert strict > stub.Verify(asked(obama, obama2, fmr=1e-2)).threshold
    answer = stub.Verify(asked(obama, obama2, threshold=0.99))
    assert (answer.HasField("fmr"), answer.threshold) == (False, 0.99)
    assert answer.results[0].decision == face_pb2.DECISION_DIFFERENT


@pytest.mark.parametrize(
    ("selection", "index", "decision", "chosen"),
    [
        (face_pb2.FACE_SELECTION_UNSPECIFIED, 0, face_pb2.DECISION_DIFFERENT, 0),
        (face_pb2.FACE_SELECTION_LARGEST, 0, face_pb2.DECISION_DIFFERENT, 0),
        (face_pb2.FACE_SELECTION_INDEX, 1, face_pb2.DECISION_SAME, 1),
        (face_pb2.FACE_SELECTION_CENTRAL, 0, face_pb2.DECISION_DIFFERENT, 0),
        (face_pb2.FACE_SELECTION_REFUSE, 0, face_pb2.DECISION_INCONCLUSIVE, None),
    ],
)
def test_the_face_is_the_callers_choice(
    stub: face_pb2_grpc.FaceServiceStub,
    both: bytes,
    biden: bytes,
    selection: face_pb2.FaceSelection.ValueType,
    index: int,
    decision: face_pb2.Decision.ValueType,
    chosen: int | None,
) -> None:
    request = asked(biden)
    request.references.add(content=both, selection=selection, face_index=index)
    (result,) = stub.Verify(request).results
    assert result.decision == decision
    assert result.reference.face_count == 2
    assert result.reference.selection == (selection or face_pb2.FACE_SELECTION_LARGEST)
    if chosen is None:
        assert list(result.reasons) == [face_pb2.REASON_SEVERAL_FACES_IN_REFERENCE]
        assert not result.reference.HasField("face")
    else:
        assert result.reference.face_index == chosen


# --- errors -------------------------------------------------------------------------------------

_GOOD = encoded(gradient(), "JPEG")
_ONE = face_pb2.Image(content=_GOOD)
_C = grpc.StatusCode


@pytest.mark.parametrize(
    ("request_", "code", "reason", "field"),
    [
        (face_pb2.VerifyRequest(), _C.INVALID_ARGUMENT, "INVALID_REQUEST", "probe"),
        (face_pb2.VerifyRequest(probe=_ONE), _C.INVALID_ARGUMENT, "INVALID_REQUEST", "references"),
        (asked(_GOOD, *[_GOOD] * 3), _C.INVALID_ARGUMENT, "INVALID_REQUEST", "references"),
        (asked(_GOOD, _GOOD, fmr=0), _C.INVALID_ARGUMENT, "INVALID_REQUEST", "fmr"),
        (asked(_GOOD, _GOOD, fmr=float("nan")), _C.INVALID_ARGUMENT, "INVALID_REQUEST", "fmr"),
        (
            asked(_GOOD, _GOOD, threshold=float("inf")),
            _C.INVALID_ARGUMENT,
            "INVALID_REQUEST",
            "threshold",
        ),
        (
            face_pb2.VerifyRequest(
                probe=_ONE,
                references=[_ONE, face_pb2.Image(content=_GOOD, selection=99)],  # type: ignore[arg-type]
            ),
            _C.INVALID_ARGUMENT,
            "INVALID_REQUEST",
            "references[1].selection",
        ),
        (asked(_GOOD, _GOOD, model="nobody"), _C.NOT_FOUND, "MODEL_UNKNOWN", "model"),
        (asked(_GOOD, _GOOD, fmr=0.2), _C.FAILED_PRECONDITION, "THRESHOLD_UNKNOWN", "fmr"),
        (asked(b"", _GOOD), _C.INVALID_ARGUMENT, "IMAGE_EMPTY", "probe"),
        (asked(_GOOD, b"text"), _C.INVALID_ARGUMENT, "IMAGE_UNSUPPORTED_FORMAT", "reference"),
        (asked(_GOOD, _GOOD, _GOOD[:500]), _C.INVALID_ARGUMENT, "IMAGE_TRUNCATED", "references[1]"),
        (
            asked(_GOOD, _GOOD.ljust(200_001, b"\0")),
            _C.INVALID_ARGUMENT,
            "IMAGE_TOO_MANY_BYTES",
            "reference",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_error_says_what_and_where(
    light: face_pb2_grpc.FaceServiceStub,
    request_: face_pb2.VerifyRequest,
    code: grpc.StatusCode,
    reason: str,
    field: str,
) -> None:
    told = rich_error(refusal(light, request_))
    assert (told.code, told.reason, told.fields) == (code, reason, [field])
    assert told.metadata["field"] == field
    assert told.message.endswith(".")


def test_an_index_that_no_face_has(
    stub: face_pb2_grpc.FaceServiceStub, both: bytes, biden: bytes
) -> None:
    request = asked(biden)
    request.references.add(content=both, selection=face_pb2.FACE_SELECTION_INDEX, face_index=2)
    told = rich_error(refusal(stub, request))
    assert (told.code, told.reason) == (_C.OUT_OF_RANGE, "FACE_INDEX_OUT_OF_RANGE")
    assert told.fields == ["reference"]
    assert told.metadata["face_count"] == "2"


def test_an_empty_picture_to_detect(light: face_pb2_grpc.FaceServiceStub) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        light.Detect(face_pb2.DetectRequest())
    assert rich_error(caught.value).fields == ["content"]


def test_a_failure_inside_tells_nothing(
    light: face_pb2_grpc.FaceServiceStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> None:
        raise RuntimeError("the secret of the house")

    monkeypatch.setattr(Gateway, "detect", fail)
    with pytest.raises(grpc.RpcError) as caught:
        light.Detect(face_pb2.DetectRequest(content=_GOOD))
    told = rich_error(caught.value)
    assert (told.code, told.reason) == (_C.INTERNAL, "INTERNAL")
    assert "secret" not in str(caught.value)


def test_overload_comes_with_a_hint(
    light: face_pb2_grpc.FaceServiceStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def busy(*_: object) -> None:
        raise MienError(Errors.OVERLOADED, "All places are taken.", retry_after=1.5)

    monkeypatch.setattr(Gateway, "verify", busy)
    told = rich_error(refusal(light, asked(_GOOD, _GOOD)))
    assert (told.code, told.reason) == (_C.RESOURCE_EXHAUSTED, "OVERLOADED")
    assert told.retry_seconds == 1.5


def test_a_message_over_the_limit(
    weightless_mien: Mien, light: face_pb2_grpc.FaceServiceStub
) -> None:
    request = face_pb2.DetectRequest(content=bytes(3 * 200_000 + 100_000))
    with pytest.raises(grpc.RpcError) as caught:
        light.Detect(request)
    assert code_of(caught.value) is _C.RESOURCE_EXHAUSTED
    with weightless_mien.faces() as again:
        again.Detect(face_pb2.DetectRequest(content=_GOOD))


@pytest.mark.parametrize("body", [b"\xff" * 10, b"\x0a\xff\xff\xff\xff\x0f", b"\x2a\x02\xff\xfe"])
def test_bytes_that_are_no_message(weightless_mien: Mien, body: bytes) -> None:
    with weightless_mien.channel() as channel:
        call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(f"/{_VERIFY}/Verify")
        with pytest.raises(grpc.RpcError) as caught:
            call(body)
    told = rich_error(caught.value)
    assert (told.code, told.reason) == (_C.INVALID_ARGUMENT, "MALFORMED_BODY")


def test_a_method_that_does_not_exist(weightless_mien: Mien) -> None:
    with weightless_mien.channel() as channel:
        call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
            f"/{_VERIFY}/Recognise"
        )
        with pytest.raises(grpc.RpcError) as caught:
            call(b"")
    assert code_of(caught.value) is _C.UNIMPLEMENTED


# --- time ---------------------------------------------------------------------------------------


def test_the_callers_deadline_holds(stub: face_pb2_grpc.FaceServiceStub, obama: bytes) -> None:
    began = time.monotonic()
    with pytest.raises(grpc.RpcError) as caught:
        stub.Verify(asked(obama, *[obama] * 20), timeout=0.01)
    assert code_of(caught.value) is _C.DEADLINE_EXCEEDED
    assert time.monotonic() - began < 5


def test_the_gateways_own_time_limit_holds(
    light: face_pb2_grpc.FaceServiceStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def late(*_: object) -> None:
        raise MienError(Errors.DEADLINE_EXCEEDED, "The request took too long.")

    monkeypatch.setattr(Gateway, "_verify", late)
    told = rich_error(refusal(light, asked(_GOOD, _GOOD)))
    assert (told.code, told.reason) == (_C.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED")


# --- request id ----------------------------------------------------------------------------------


@pytest.mark.parametrize("offered", ["camera-7.frame:12", None, "two words", "x" * 129])
def test_the_request_id_comes_back(
    light: face_pb2_grpc.FaceServiceStub, offered: str | None
) -> None:
    metadata = () if offered is None else (("x-request-id", offered),)
    answer, call = light.Detect.with_call(face_pb2.DetectRequest(content=_GOOD), metadata=metadata)
    echoed = dict(call.initial_metadata())["x-request-id"]
    assert answer.request_id == echoed
    if offered == "camera-7.frame:12":
        assert echoed == offered
    else:
        assert re.fullmatch("[0-9a-f]{32}", echoed)


def test_errors_carry_the_request_id_too(light: face_pb2_grpc.FaceServiceStub) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        light.Detect(face_pb2.DetectRequest(), metadata=(("x-request-id", "mine"),))
    sent = cast("grpc.Call", caught.value).initial_metadata()
    assert dict(sent)["x-request-id"] == "mine"
