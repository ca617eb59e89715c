"""Reads gRPC requests about stored people, into the core's commands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grpc

from services.access import bound_tenant
from services.gallery import DEFAULT_TENANT
from services.gallery.checks import checked_tenant
from services.gateway.core import indexed
from services.gateway.enrol_command import EnrolCommand
from services.gateway.face_messages import invalid, picture_input
from services.gateway.faces import Selection
from services.gateway.given_vectors import GivenVector, vector_of_bytes
from services.gateway.identification import IdentifyCommand
from services.gateway.subject_verification import VerifySubjectCommand
from services.rpc.mien.v1 import gallery_pb2, model_pb2

TENANT_KEY = "x-mien-tenant"
_USUAL_CANDIDATES = 5


def tenant_of(context: grpc.aio.ServicerContext[Any, Any]) -> str:
    """The tenant that a call is for.

    Raises:
        MienError: the name is not valid.
    """
    given = dict(context.invocation_metadata() or ()).get(TENANT_KEY)
    named = given if given is None or isinstance(given, str) else ""
    return checked_tenant(bound_tenant(named, DEFAULT_TENANT))


def enrol_command(request: gallery_pb2.EnrolRequest) -> EnrolCommand:
    """An enrolment.

    Raises:
        MienError: names the field at fault.
    """
    names = indexed("picture", len(request.pictures))
    return EnrolCommand(
        request.subject_id,
        tuple(
            picture_input(image, name, usual=Selection.REFUSE)
            for image, name in zip(request.pictures, names, strict=True)
        ),
        _vectors(request.vectors),
        name=request.name if request.HasField("name") else None,
        metadata=dict(request.metadata) or None,
        key=request.idempotency_key,
        allow_duplicate=request.allow_duplicate,
        leave_out_poor=request.leave_out_poor,
    )


def verify_command(request: gallery_pb2.VerifySubjectRequest) -> VerifySubjectCommand:
    """A verification against a subject.

    Raises:
        MienError: names the field at fault.
    """
    probe = request.WhichOneof("probe")
    if probe is None:
        raise invalid("probe", "Give either a picture or a vector.")
    point = request.WhichOneof("operating_point")
    if point == "fmr":
        _check_rate(request.fmr, "fmr")
    if point == "threshold":
        _check_threshold(request.threshold)
    return VerifySubjectCommand(
        request.subject_id,
        picture_input(request.picture, "picture") if probe == "picture" else None,
        _vector(request.vector, "vector") if probe == "vector" else None,
        fmr=request.fmr if point == "fmr" else None,
        threshold=request.threshold if point == "threshold" else None,
        enhance=not request.no_enhancement,
    )


def identify_command(request: gallery_pb2.IdentifyRequest) -> IdentifyCommand:
    """An identification.

    Raises:
        MienError: names the field at fault.
    """
    point = request.WhichOneof("operating_point")
    if point == "fpir":
        _check_rate(request.fpir, "fpir")
    if point == "threshold":
        _check_threshold(request.threshold)
    return IdentifyCommand(
        tuple(request.pictures),
        _vectors(request.vectors),
        limit=request.limit or _USUAL_CANDIDATES,
        fpir=request.fpir if point == "fpir" else None,
        threshold=request.threshold if point == "threshold" else None,
        enhance=not request.no_enhancement,
    )


def _vectors(given: Sequence[gallery_pb2.GivenVector]) -> tuple[GivenVector, ...]:
    names = indexed("vector", len(given))
    return tuple(_vector(one, name) for one, name in zip(given, names, strict=True))


def _vector(given: gallery_pb2.GivenVector, field: str) -> GivenVector:
    model = given.model
    if model.origin == model_pb2.VECTOR_ORIGIN_UNSPECIFIED:
        raise invalid(f"{field}.model.origin", "Say whether the vector is native or mapped.")
    return GivenVector(
        vector_of_bytes(given.values, field),
        model.name,
        model.version,
        model.weights_sha256,
        model.preprocessing_sha256,
        mapped=model.origin != model_pb2.VECTOR_ORIGIN_NATIVE,
        quality=given.quality,
        pictures=given.pictures or 1,
    )


def _check_rate(value: float, field: str) -> None:
    if not 0 < value < 1:
        raise invalid(field, "A rate lies between 0 and 1.")


def _check_threshold(value: float) -> None:
    if not abs(value) < float("inf"):
        raise invalid("threshold", "The threshold must be a finite number.")
