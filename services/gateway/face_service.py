"""gRPC: a thin skin over the gateway's core."""

from __future__ import annotations

from typing import Any

import grpc

from services.gateway import core
from services.gateway.face_messages import (
    DECISIONS,
    REASONS,
    chosen_message,
    face_message,
    invalid,
    picture_input,
)
from services.gateway.gallery_requests import tenant_of
from services.rpc.mien.v1 import face_pb2, face_pb2_grpc
from services.rpc.server import answer

SERVICE_NAME = face_pb2.DESCRIPTOR.services_by_name["FaceService"].full_name
_Context = grpc.aio.ServicerContext[Any, Any]

_INCLUDES = set(face_pb2.Include.values())


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
            found = await self._gateway.verify(command, tenant_of(context))
            return _verify_response(found, request_id, command)

        return await answer(context, "Verify", work)

    async def Detect(  # noqa: N802 - gRPC's name
        self, request: face_pb2.DetectRequest, context: _Context
    ) -> face_pb2.DetectResponse:
        """Finds every face in a picture and measures it."""

        async def work(request_id: str) -> face_pb2.DetectResponse:
            found = await self._gateway.detect(request.content, "content")
            return face_pb2.DetectResponse(
                faces=[face_message(face) for face in found.faces],
                width=found.width,
                height=found.height,
                timing_ms=found.stopwatch.milliseconds(),
                request_id=request_id,
            )

        return await answer(context, "Detect", work)

    def _command(self, request: face_pb2.VerifyRequest) -> core.VerifyCommand:
        if not request.HasField("probe"):
            raise invalid("probe", "A probe picture is needed.")
        if not request.references:
            raise invalid("references", "At least one reference picture is needed.")
        if len(request.references) > self._max_references:
            raise invalid("references", f"At most {self._max_references} are accepted.")
        point = request.WhichOneof("operating_point")
        if any(one not in _INCLUDES for one in request.include):
            raise invalid("include", "This word is not known.")
        if point == "fmr" and not 0 < request.fmr < 1:
            raise invalid("fmr", "A false-match rate lies between 0 and 1.")
        if point == "threshold" and not abs(request.threshold) < float("inf"):
            raise invalid("threshold", "The threshold must be a finite number.")
        return core.VerifyCommand(
            probe=picture_input(request.probe, "probe"),
            references=tuple(
                picture_input(image, f"references[{index}]")
                for index, image in enumerate(request.references)
            ),
            fmr=request.fmr if point == "fmr" else None,
            threshold=request.threshold if point == "threshold" else None,
            model=request.model,
            enhance=not request.no_enhancement,
            show_enhanced=face_pb2.INCLUDE_ENHANCED in request.include,
            show_aligned=face_pb2.INCLUDE_ALIGNED in request.include,
        )


def _verify_response(
    found: core.Verification, request_id: str, command: core.VerifyCommand
) -> face_pb2.VerifyResponse:
    response = face_pb2.VerifyResponse(
        results=[_result(result, command) for result in found.results],
        probe=chosen_message(
            found.probe, found.probe_enhancement, command.show_enhanced, command.show_aligned
        ),
        threshold=found.results[0].point.threshold,
        model=found.identity,
        timing_ms=found.stopwatch.milliseconds(),
        request_id=request_id,
    )
    fmr = found.results[0].point.fmr
    if fmr is not None:
        response.fmr = fmr
    return response


def _result(result: core.ReferenceResult, command: core.VerifyCommand) -> face_pb2.VerifyResult:
    made = face_pb2.VerifyResult(
        decision=DECISIONS[result.decision],
        threshold=result.point.threshold,
        reasons=[REASONS[str(reason)] for reason in result.reasons],
        reference=chosen_message(
            result.reference, result.enhancement, command.show_enhanced, command.show_aligned
        ),
    )
    if result.similarity is not None:
        made.similarity = result.similarity
    return made
