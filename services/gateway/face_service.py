"""gRPC: a thin skin over the gateway's core."""

from __future__ import annotations

from typing import Any

import grpc

from services.errors import Errors, MienError
from services.gateway import core
from services.gateway.decision import Cause, Decision, Reason
from services.gateway.enhancement import Enhancement, Status
from services.gateway.faces import Face, FaceChoice, Selection
from services.gateway.pipeline import PreparedFace
from services.modality import Modality
from services.rpc.mien.v1 import face_pb2, face_pb2_grpc
from services.rpc.server import answer

SERVICE_NAME = face_pb2.DESCRIPTOR.services_by_name["FaceService"].full_name
_Context = grpc.aio.ServicerContext[Any, Any]

_SELECTIONS = {
    face_pb2.FACE_SELECTION_UNSPECIFIED: Selection.LARGEST,
    face_pb2.FACE_SELECTION_LARGEST: Selection.LARGEST,
    face_pb2.FACE_SELECTION_INDEX: Selection.INDEX,
    face_pb2.FACE_SELECTION_REFUSE: Selection.REFUSE,
    face_pb2.FACE_SELECTION_CENTRAL: Selection.CENTRAL,
}
_SELECTIONS_OUT = {selection: number for number, selection in _SELECTIONS.items() if number}
_DECISIONS = {
    Decision.SAME: face_pb2.DECISION_SAME,
    Decision.DIFFERENT: face_pb2.DECISION_DIFFERENT,
    Decision.INCONCLUSIVE: face_pb2.DECISION_INCONCLUSIVE,
}
_REASONS = {
    str(Reason(cause, where)): face_pb2.Reason.Value(f"REASON_{cause.name}_IN_{where.upper()}")
    for cause in Cause
    for where in ("probe", "reference")
}
_STATUSES = {
    status: face_pb2.EnhancementStatus.Value(f"ENHANCEMENT_STATUS_{status.name}")
    for status in Status
}
_INCLUDES = set(face_pb2.Include.values())
_MODALITIES = {
    Modality.VISIBLE: face_pb2.MODALITY_VISIBLE,
    Modality.NEAR_INFRARED_OR_GREY: face_pb2.MODALITY_NEAR_INFRARED_OR_GREY,
}


class FaceServicer(face_pb2_grpc.FaceServiceServicer):
    """`mien.v1.FaceService`.

    Args:
        gateway: does the work.
        max_references: most references in one call.
    """

    def __init__(self, gateway: core.Gateway, max_references: int) -> None:
        self._gateway = gateway
        self._max_references = max_references

    async def Verify(  # noqa: N802 - gRPC's name
        self, request: face_pb2.VerifyRequest, context: _Context
    ) -> face_pb2.VerifyResponse:
        """Compares the face in a probe picture with the face in each of the references."""

        async def work(request_id: str) -> face_pb2.VerifyResponse:
            command = self._command(request)
            found = await self._gateway.verify(command)
            return _verify_response(found, request_id, command.show_enhanced)

        return await answer(context, "Verify", work)

    async def Detect(  # noqa: N802 - gRPC's name
        self, request: face_pb2.DetectRequest, context: _Context
    ) -> face_pb2.DetectResponse:
        """Finds every face in a picture and measures it."""

        async def work(request_id: str) -> face_pb2.DetectResponse:
            found = await self._gateway.detect(request.content, "content")
            return face_pb2.DetectResponse(
                faces=[_face(face) for face in found.faces],
                width=found.width,
                height=found.height,
                timing_ms=found.stopwatch.milliseconds(),
                request_id=request_id,
            )

        return await answer(context, "Detect", work)

    def _command(self, request: face_pb2.VerifyRequest) -> core.VerifyCommand:
        if not request.HasField("probe"):
            raise _invalid("probe", "A probe picture is needed.")
        if not request.references:
            raise _invalid("references", "At least one reference picture is needed.")
        if len(request.references) > self._max_references:
            raise _invalid("references", f"At most {self._max_references} are accepted.")
        point = request.WhichOneof("operating_point")
        if any(one not in _INCLUDES for one in request.include):
            raise _invalid("include", "This word is not known.")
        if point == "fmr" and not 0 < request.fmr < 1:
            raise _invalid("fmr", "A false-match rate lies between 0 and 1.")
        if point == "threshold" and not abs(request.threshold) < float("inf"):
            raise _invalid("threshold", "The threshold must be a finite number.")
        return core.VerifyCommand(
            probe=_picture(request.probe, "probe"),
            references=tuple(
                _picture(image, f"references[{index}]")
                for index, image in enumerate(request.references)
            ),
            fmr=request.fmr if point == "fmr" else None,
            threshold=request.threshold if point == "threshold" else None,
            model=request.model,
            enhance=not request.no_enhancement,
            show_enhanced=face_pb2.INCLUDE_ENHANCED in request.include,
        )


def _picture(image: face_pb2.Image, field: str) -> core.PictureInput:
    selection = _SELECTIONS.get(image.selection)
    if selection is None:
        raise _invalid(f"{field}.selection", "This selection is not known.")
    return core.PictureInput(image.content, FaceChoice(selection, image.face_index))


def _invalid(field: str, detail: str) -> MienError:
    return MienError(Errors.INVALID_REQUEST, detail, field=field)


def _verify_response(
    found: core.Verification, request_id: str, show_enhanced: bool
) -> face_pb2.VerifyResponse:
    response = face_pb2.VerifyResponse(
        results=[_result(result, show_enhanced) for result in found.results],
        probe=_chosen(found.probe, found.probe_enhancement, show_enhanced),
        threshold=found.results[0].point.threshold,
        model=found.identity,
        timing_ms=found.stopwatch.milliseconds(),
        request_id=request_id,
    )
    fmr = found.results[0].point.fmr
    if fmr is not None:
        response.fmr = fmr
    return response


def _result(result: core.ReferenceResult, show_enhanced: bool) -> face_pb2.VerifyResult:
    made = face_pb2.VerifyResult(
        decision=_DECISIONS[result.decision],
        threshold=result.point.threshold,
        reasons=[_REASONS[str(reason)] for reason in result.reasons],
        reference=_chosen(result.reference, result.enhancement, show_enhanced),
    )
    if result.similarity is not None:
        made.similarity = result.similarity
    return made


def _chosen(
    prepared: PreparedFace, enhancement: Enhancement | None, show_enhanced: bool
) -> face_pb2.ChosenFace:
    return face_pb2.ChosenFace(
        face=None if prepared.face is None else _face(prepared.face),
        face_count=prepared.face_count,
        face_index=prepared.face_index or 0,
        selection=_SELECTIONS_OUT[prepared.choice.selection],
        enhancement=None if enhancement is None else _enhancement(enhancement, show_enhanced),
    )


def _enhancement(done: Enhancement, show: bool) -> face_pb2.Enhancement:
    return face_pb2.Enhancement(
        status=_STATUSES[done.status],
        eyes_px=done.eyes_px,
        enhancer=done.enhancer,
        enhancer_sha256=done.enhancer_sha256,
        condition=done.condition or "",
        image=(done.png() if show else None) or b"",
    )


def _face(face: Face) -> face_pb2.Face:
    x, y, width, height = face.detection.box
    return face_pb2.Face(
        box=face_pb2.Box(x=x, y=y, width=width, height=height),
        score=face.detection.score,
        points=[face_pb2.Point(x=float(x), y=float(y)) for x, y in face.detection.points],
        pose=face_pb2.Pose(yaw=face.pose.yaw, pitch=face.pose.pitch, roll=face.pose.roll),
        quality=face_pb2.Quality(unified=face.quality.unified, components=face.quality.components),
        modality=_MODALITIES[face.modality],
        inter_eye_distance=face.inter_eye_distance,
    )
