"""Mien's errors as rich gRPC statuses, and back."""

from __future__ import annotations

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from services.errors import BY_CODE, MienError

_DOMAIN = "mien"


def to_status(error: MienError) -> grpc.Status:
    """The status of an error, with ErrorInfo, BadRequest and RetryInfo where they apply."""
    info = error_details_pb2.ErrorInfo(reason=error.kind.code.upper(), domain=_DOMAIN)
    if error.face_count is not None:
        info.metadata["face_count"] = str(error.face_count)
    if error.subject_id is not None:
        info.metadata["subject_id"] = error.subject_id
    details: list[any_pb2.Any] = [_pack(info)]
    if error.field:
        info.metadata["field"] = error.field
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=error.field, description=error.detail, reason=error.kind.code.upper()
        )
        details = [_pack(info), _pack(error_details_pb2.BadRequest(field_violations=[violation]))]
    if error.retry_after is not None:
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(int(error.retry_after * 1e3))
        details.append(_pack(error_details_pb2.RetryInfo(retry_delay=delay)))
    code, _ = error.kind.status.value
    status = status_pb2.Status(code=code, message=error.detail, details=details)
    return rpc_status.to_status(status)


def from_rpc_error(error: grpc.aio.AioRpcError) -> MienError | None:
    """The Mien error that a service answered with, or None for any other failure."""
    # `from_call` takes any object with these three methods, which an AioRpcError has.
    status = rpc_status.from_call(error)  # type: ignore[arg-type]
    if status is None:
        return None
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    retry_after = None
    for detail in status.details:
        if detail.Unpack(retry):
            retry_after = retry.retry_delay.ToMilliseconds() / 1e3
        else:
            detail.Unpack(info)
    kind = BY_CODE.get(info.reason.lower()) if info.domain == _DOMAIN else None
    if kind is None:
        return None
    count = info.metadata.get("face_count", "")
    return MienError(
        kind,
        status.message,
        field=info.metadata.get("field") or None,
        retry_after=retry_after,
        face_count=int(count) if count.isdecimal() else None,
        subject_id=info.metadata.get("subject_id") or None,
    )


def _pack(message: error_details_pb2.ErrorInfo) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed
