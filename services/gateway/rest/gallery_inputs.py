"""Reads REST requests about subjects and the gallery, into the core's commands."""

from __future__ import annotations

import base64
import binascii

import numpy as np
from starlette.datastructures import FormData
from starlette.requests import Request

from services.access import bound_tenant
from services.gallery import DEFAULT_TENANT
from services.gallery.checks import checked_id, checked_tenant
from services.gateway.core import PictureInput
from services.gateway.enrol_command import EnrolCommand
from services.gateway.faces import FaceChoice
from services.gateway.given_vectors import GivenVector, vector_of_bytes
from services.gateway.identification import IdentifyCommand
from services.gateway.rest.bodies import (
    JSON,
    decoded,
    files,
    form_body,
    invalid,
    json_body,
    media_type,
    texts,
    validated,
)
from services.gateway.rest.gallery_bodies import (
    ConsentBody,
    EnrolFields,
    EnrolJson,
    IdentifyFields,
    IdentifyJson,
    SubjectBody,
    VectorBody,
    VerifySubjectFields,
    VerifySubjectJson,
)
from services.gateway.subject_verification import VerifySubjectCommand
from services.gateway.subjects import CreateCommand

TENANT_HEADER = "x-mien-tenant"
KEY_HEADER = "idempotency-key"


def tenant_of(request: Request) -> str:
    """The tenant that a request is for.

    Raises:
        MienError: the name is not valid.
    """
    return checked_tenant(bound_tenant(request.headers.get(TENANT_HEADER), DEFAULT_TENANT))


def key_of(request: Request) -> str:
    """The request's idempotency key, or an empty string.

    Raises:
        MienError: it is not valid.
    """
    key = request.headers.get(KEY_HEADER)
    return "" if key is None else checked_id(key, KEY_HEADER)


def limit_of(request: Request, default: int = 100) -> int:
    """The query's ``limit``.

    Raises:
        MienError: it is not a number.
    """
    text = request.query_params.get("limit", str(default))
    if not (text.isascii() and text.isdigit()):
        raise invalid("limit", "It is a whole number.")
    return int(text)


def flag_of(request: Request, name: str) -> bool:
    """A yes or no of the query; no where it is not there.

    Raises:
        MienError: it is neither.
    """
    text = request.query_params.get(name, "false")
    if text not in ("true", "false"):
        raise invalid(name, "It is true or false.")
    return text == "true"


async def read_subject(request: Request) -> CreateCommand:
    """Reads a subject to be created.

    Raises:
        MienError: names the field at fault.
    """
    media_type(request, JSON)
    body = validated(SubjectBody, await json_body(request))
    return CreateCommand(body.id, body.name, body.metadata, key_of(request))


async def read_consent(request: Request) -> bool:
    """Reads whether consent is given.

    Raises:
        MienError: names the field at fault.
    """
    media_type(request, JSON)
    return validated(ConsentBody, await json_body(request)).given


async def read_enrolment(request: Request, subject_id: str, max_pictures: int) -> EnrolCommand:
    """Reads an enrolment.

    Raises:
        MienError: names the field at fault.
    """
    key = key_of(request)
    if media_type(request) == JSON:
        return enrol_command(validated(EnrolJson, await json_body(request)), subject_id, key)
    form = await form_body(request, max_pictures)
    try:
        fields = validated(EnrolFields, texts(form, {"picture"}))
        return _enrol(fields, subject_id, key, await files(form, "picture"), [])
    finally:
        await form.close()


def enrol_command(body: EnrolJson, subject_id: str, key: str) -> EnrolCommand:
    """An enrolment from JSON.

    Raises:
        MienError: names the picture or vector at fault.
    """
    pictures = _pictures(body.pictures)
    return _enrol(body, subject_id, key, pictures, body.vectors)


async def read_verify_subject(request: Request, subject_id: str) -> VerifySubjectCommand:
    """Reads a verification against a subject.

    Raises:
        MienError: names the field at fault.
    """
    if media_type(request) == JSON:
        body = validated(VerifySubjectJson, await json_body(request))
        if (body.picture is None) == (body.vector is None):
            raise invalid("picture", "Give either a picture or a vector.")
        picture = None if body.picture is None else decoded(body.picture, "picture")
        vector = None if body.vector is None else _vector(body.vector, "vector")
        return _verify(body, subject_id, picture, vector)
    form = await form_body(request, 1)
    try:
        fields = validated(VerifySubjectFields, texts(form, {"picture"}))
        return _verify(fields, subject_id, await _only_picture(form), None)
    finally:
        await form.close()


async def read_identify(request: Request, max_pictures: int) -> IdentifyCommand:
    """Reads an identification.

    Raises:
        MienError: names the field at fault.
    """
    if media_type(request) == JSON:
        body = validated(IdentifyJson, await json_body(request))
        vectors = [
            _vector(one, _field("vector", index, len(body.vectors)))
            for index, one in enumerate(body.vectors)
        ]
        return _identify(body, _pictures(body.pictures), vectors)
    form = await form_body(request, max_pictures)
    try:
        fields = validated(IdentifyFields, texts(form, {"picture"}))
        return _identify(fields, await files(form, "picture"), [])
    finally:
        await form.close()


async def _only_picture(form: FormData) -> bytes:
    given = await files(form, "picture")
    if len(given) != 1:
        raise invalid("picture", "Exactly one picture is needed.")
    return given[0]


def _enrol(
    fields: EnrolFields, subject_id: str, key: str, pictures: list[bytes], vectors: list[VectorBody]
) -> EnrolCommand:
    choice = FaceChoice(fields.face, fields.face_index)
    return EnrolCommand(
        subject_id,
        tuple(PictureInput(data, choice) for data in pictures),
        tuple(
            _vector(one, _field("vector", index, len(vectors))) for index, one in enumerate(vectors)
        ),
        name=fields.name,
        metadata=fields.metadata,
        key=key,
        allow_duplicate=fields.allow_duplicate,
        leave_out_poor=fields.poor == "leave_out",
    )


def _verify(
    fields: VerifySubjectFields, subject_id: str, picture: bytes | None, vector: GivenVector | None
) -> VerifySubjectCommand:
    choice = FaceChoice(fields.face, fields.face_index)
    return VerifySubjectCommand(
        subject_id,
        None if picture is None else PictureInput(picture, choice),
        vector,
        fmr=fields.fmr,
        threshold=fields.threshold,
        enhance=fields.enhance,
    )


def _identify(
    fields: IdentifyFields, pictures: list[bytes], vectors: list[GivenVector]
) -> IdentifyCommand:
    return IdentifyCommand(
        tuple(pictures),
        tuple(vectors),
        limit=fields.limit,
        fpir=fields.fpir,
        threshold=fields.threshold,
        enhance=fields.enhance,
    )


def _pictures(given: list[str]) -> list[bytes]:
    return [decoded(text, _field("picture", index, len(given))) for index, text in enumerate(given)]


def _vector(given: VectorBody, field: str) -> GivenVector:
    if isinstance(given.values, str):
        try:
            data = base64.b64decode(given.values, validate=True)
        except (binascii.Error, ValueError) as error:
            raise invalid(field, "The values must be numbers, or base64.") from error
        values = vector_of_bytes(data, field)
    else:
        with np.errstate(over="ignore"):  # what float32 cannot hold is refused as not finite
            values = np.asarray(given.values, np.float64).astype(np.float32)
    model = given.model
    return GivenVector(
        values,
        model.name,
        model.version,
        model.weights_sha256,
        model.preprocessing_sha256,
        mapped=model.origin == "mapped",
        quality=given.quality,
        pictures=given.pictures,
    )


def _field(name: str, index: int, count: int) -> str:
    return name if count == 1 else f"{name}s[{index}]"
