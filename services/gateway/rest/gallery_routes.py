"""REST about subjects and the gallery."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

from fastapi import FastAPI, Request
from pydantic import BaseModel
from starlette.responses import Response, StreamingResponse

from services.errors import Errors
from services.gateway.bulk_enrolment import BulkAnswer
from services.gateway.gallery_core import GalleryGateway
from services.gateway.rest import problems
from services.gateway.rest.bulk_rows import JSON_LINES, ZIP, read_rows
from services.gateway.rest.descriptions import (
    COMMON_ERRORS,
    FILE,
    KEY_PARAMETER,
    TENANT_PARAMETER,
    body,
    json_only,
)
from services.gateway.rest.disconnect import while_connected
from services.gateway.rest.gallery_answers import (
    bulk_row_out,
    deletion_out,
    enrol_out,
    gallery_out,
    identify_out,
    stored_out,
    subject_templates_out,
    subjects_out,
    verify_subject_out,
)
from services.gateway.rest.gallery_inputs import (
    ConsentIn,
    EnrolFields,
    EnrolJson,
    IdentifyFields,
    IdentifyJson,
    SubjectIn,
    VerifySubjectFields,
    VerifySubjectJson,
    limit_of,
    read_consent,
    read_enrolment,
    read_identify,
    read_subject,
    read_verify_subject,
    tenant_of,
)
from services.gateway.rest.gallery_schemas import (
    BulkRowOut,
    DeletionOut,
    EnrolOut,
    GalleryOut,
    IdentifyOut,
    StoredSubjectOut,
    SubjectsOut,
    SubjectTemplatesOut,
    VerifySubjectOut,
)
from services.gateway.subjects import CreateCommand
from services.telemetry import count_request

_SUBJECT = "/v1/subjects/{subject_id}"
_UNAVAILABLE = (Errors.INVALID_REQUEST, Errors.GALLERY_UNAVAILABLE)
_KNOWN = (Errors.SUBJECT_UNKNOWN, *_UNAVAILABLE)
_FACES = (
    *COMMON_ERRORS,
    Errors.FACE_INDEX_OUT_OF_RANGE,
    Errors.TEMPLATE_INVALID,
    Errors.IDENTITY_MISMATCH,
    Errors.EMBEDDING_UNAVAILABLE,
    Errors.GALLERY_MODEL_UNAVAILABLE,
    Errors.GALLERY_UNAVAILABLE,
)
_ENROL_ERRORS = (
    *_FACES,
    Errors.DUPLICATE_SUBJECT,
    Errors.CONSENT_WITHDRAWN,
    Errors.IDEMPOTENCY_KEY_REUSED,
)


_FILES = {"type": "array", "items": FILE, "minItems": 1}
_REF_BULK = {"$ref": f"#/components/schemas/{BulkRowOut.__name__}"}
_PAGING: list[dict[str, Any]] = [
    {
        "name": "cursor",
        "in": "query",
        "description": "from the page before",
        "schema": {"type": "string"},
    },
    {
        "name": "limit",
        "in": "query",
        "description": "most subjects in the answer",
        "schema": {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100},
    },
]


def add_gallery(app: FastAPI, gallery: GalleryGateway) -> None:
    """Adds the routes.

    Args:
        app: the application.
        gallery: does the work.
    """
    _add_subjects(app, gallery)
    _add_templates(app, gallery)
    _add_search(app, gallery)


def _add_subjects(app: FastAPI, gallery: GalleryGateway) -> None:
    @app.post(
        "/v1/subjects",
        status_code=201,
        response_model=StoredSubjectOut,
        operation_id="createSubject",
        summary="Store a subject without templates.",
        tags=["subjects"],
        responses={
            200: {"model": StoredSubjectOut, "description": "the key's subject was there already"},
            **problems.responses(
                *_UNAVAILABLE,
                Errors.MALFORMED_BODY,
                Errors.UNSUPPORTED_MEDIA_TYPE,
                Errors.SUBJECT_EXISTS,
                Errors.IDEMPOTENCY_KEY_REUSED,
            ),
        },
        openapi_extra=json_only(SubjectIn, TENANT_PARAMETER, KEY_PARAMETER),
    )
    async def create(request: Request) -> Response:
        tenant = tenant_of(request)
        command: CreateCommand = await read_subject(request)
        made = await gallery.subjects.create(tenant, command)
        shown = stored_out(made.subject, _id(request), repeated=made.repeated)
        return _ok("/v1/subjects", shown, 200 if made.repeated else 201)

    @app.get(
        "/v1/subjects",
        response_model=SubjectsOut,
        operation_id="listSubjects",
        summary="List subjects by id, page by page.",
        tags=["subjects"],
        responses=problems.responses(*_UNAVAILABLE),
        openapi_extra={"parameters": [TENANT_PARAMETER, *_PAGING]},
    )
    async def page(request: Request) -> Response:
        cursor = request.query_params.get("cursor", "")
        found = await gallery.subjects.page(tenant_of(request), cursor, limit_of(request))
        return _ok("/v1/subjects", subjects_out(found, _id(request)))

    @app.get(
        _SUBJECT,
        response_model=SubjectTemplatesOut,
        operation_id="getSubject",
        summary="One subject with its templates (without their vectors).",
        tags=["subjects"],
        responses=problems.responses(*_KNOWN),
        openapi_extra={"parameters": [TENANT_PARAMETER]},
    )
    async def get(request: Request, subject_id: str) -> Response:
        found = await gallery.subjects.get(tenant_of(request), subject_id)
        return _ok(_SUBJECT, subject_templates_out(found, _id(request)))

    @app.delete(
        _SUBJECT,
        response_model=DeletionOut,
        operation_id="deleteSubject",
        summary="Delete every trace of a subject, and tell what a second look found.",
        tags=["subjects"],
        responses=problems.responses(*_KNOWN),
        openapi_extra={"parameters": [TENANT_PARAMETER]},
    )
    async def delete(request: Request, subject_id: str) -> Response:
        report = await gallery.subjects.delete(tenant_of(request), subject_id)
        return _ok(_SUBJECT, deletion_out(report, _id(request)))

    @app.put(
        f"{_SUBJECT}/consent",
        response_model=StoredSubjectOut,
        operation_id="setConsent",
        summary="Withdraw consent, or give it again.",
        tags=["subjects"],
        responses=problems.responses(*_KNOWN, Errors.MALFORMED_BODY, Errors.UNSUPPORTED_MEDIA_TYPE),
        openapi_extra=json_only(ConsentIn, TENANT_PARAMETER),
    )
    async def consent(request: Request, subject_id: str) -> Response:
        tenant = tenant_of(request)
        given = await read_consent(request)
        changed = await gallery.subjects.set_consent(tenant, subject_id, given=given)
        return _ok(f"{_SUBJECT}/consent", stored_out(changed, _id(request)))


def _add_templates(app: FastAPI, gallery: GalleryGateway) -> None:
    @app.post(
        f"{_SUBJECT}/templates",
        status_code=201,
        response_model=EnrolOut,
        operation_id="enrol",
        summary="Make a template of pictures of one person, or store vectors.",
        tags=["subjects"],
        responses={
            200: {"model": EnrolOut, "description": "repeated, or refused for poor pictures"},
            **problems.responses(*_ENROL_ERRORS),
        },
        openapi_extra=body(
            EnrolJson, EnrolFields, {"picture": _FILES}, [], TENANT_PARAMETER, KEY_PARAMETER
        ),
    )
    async def enrol(request: Request, subject_id: str) -> Response:
        gallery.capacity.refuse_if_full()
        tenant = tenant_of(request)
        command = await read_enrolment(request, subject_id, gallery.settings.enrolment.max_pictures)
        answer = await while_connected(request, gallery.enroller.enrol(tenant, command))
        shown = enrol_out(answer, _id(request))
        return _ok(f"{_SUBJECT}/templates", shown, 201 if shown.outcome == "enrolled" else 200)

    @app.delete(
        f"{_SUBJECT}/templates/{{template_id}}",
        response_model=DeletionOut,
        operation_id="deleteTemplate",
        summary="Delete one template in all model versions.",
        tags=["subjects"],
        responses=problems.responses(*_KNOWN, Errors.TEMPLATE_UNKNOWN),
        openapi_extra={"parameters": [TENANT_PARAMETER]},
    )
    async def delete(request: Request, subject_id: str, template_id: str) -> Response:
        tenant = tenant_of(request)
        report = await gallery.subjects.delete_template(tenant, subject_id, template_id)
        return _ok(f"{_SUBJECT}/templates/{{template_id}}", deletion_out(report, _id(request)))

    @app.post(
        "/v1/enrolments",
        operation_id="enrolMany",
        summary="Enrol many subjects; the answer tells row by row what became of each.",
        tags=["subjects"],
        response_class=StreamingResponse,
        responses={
            200: {
                "description": "one JSON object a line, in the order of the rows",
                "content": {JSON_LINES: {"schema": _REF_BULK}},
            },
            **problems.responses(
                *_UNAVAILABLE,
                Errors.MALFORMED_BODY,
                Errors.UNSUPPORTED_MEDIA_TYPE,
                Errors.REQUEST_TOO_LARGE,
                Errors.OVERLOADED,
            ),
        },
        openapi_extra={
            "parameters": [TENANT_PARAMETER, KEY_PARAMETER],
            "requestBody": {
                "required": True,
                "content": {
                    JSON_LINES: {"schema": {"$ref": "#/components/schemas/EnrolRow"}},
                    ZIP: {"schema": FILE},
                },
            },
        },
    )
    async def enrol_many(request: Request) -> Response:
        gallery.capacity.refuse_if_full()
        tenant = tenant_of(request)
        await gallery.access.gallery()
        read = await read_rows(request, gallery.settings)
        answers = gallery.bulk.enrol(tenant, read.rows)
        first = await anext(answers)  # what refuses them all is an error, not a line
        lines = _lines(first, answers, read.total, _id(request))
        return StreamingResponse(lines, media_type=JSON_LINES)


def _add_search(app: FastAPI, gallery: GalleryGateway) -> None:
    @app.post(
        f"{_SUBJECT}/verify",
        response_model=VerifySubjectOut,
        operation_id="verifySubject",
        summary="Say whether a picture or a vector is of one stored subject.",
        tags=["subjects"],
        responses=problems.responses(
            *_FACES,
            Errors.SUBJECT_UNKNOWN,
            Errors.TEMPLATE_UNKNOWN,
            Errors.CONSENT_WITHDRAWN,
            Errors.THRESHOLD_UNKNOWN,
            Errors.GALLERY_EMPTY,
        ),
        openapi_extra=body(
            VerifySubjectJson, VerifySubjectFields, {"picture": FILE}, ["picture"], TENANT_PARAMETER
        ),
    )
    async def verify(request: Request, subject_id: str) -> Response:
        gallery.capacity.refuse_if_full()
        tenant = tenant_of(request)
        command = await read_verify_subject(request, subject_id)
        answer = await while_connected(request, gallery.verifier.verify(tenant, command))
        return _ok(f"{_SUBJECT}/verify", verify_subject_out(answer, _id(request)))

    @app.post(
        "/v1/identify",
        response_model=IdentifyOut,
        operation_id="identify",
        summary="Say who is seen in pictures, or whom vectors are of.",
        tags=["gallery"],
        responses=problems.responses(*_FACES, Errors.THRESHOLD_UNKNOWN, Errors.GALLERY_EMPTY),
        openapi_extra=body(
            IdentifyJson, IdentifyFields, {"picture": _FILES}, ["picture"], TENANT_PARAMETER
        ),
    )
    async def identify(request: Request) -> Response:
        gallery.capacity.refuse_if_full()
        tenant = tenant_of(request)
        command = await read_identify(request, gallery.settings.identification.max_pictures)
        answer = await while_connected(request, gallery.identifier.identify(tenant, command))
        return _ok("/v1/identify", identify_out(answer, _id(request)))

    @app.get(
        "/v1/gallery",
        response_model=GalleryOut,
        operation_id="describeGallery",
        summary="Which model the gallery lives by, and how full it is.",
        tags=["gallery"],
        responses=problems.responses(*_UNAVAILABLE, Errors.EMBEDDING_UNAVAILABLE),
        openapi_extra={"parameters": [TENANT_PARAMETER]},
    )
    async def describe(request: Request) -> Response:
        info = await gallery.subjects.info(tenant_of(request))
        return _ok("/v1/gallery", gallery_out(info, gallery.settings.gallery.fpir, _id(request)))


async def _lines(
    first: BulkAnswer, others: AsyncGenerator[BulkAnswer], total: int, request_id: str
) -> AsyncIterator[str]:
    async with aclosing(others):
        yield f"{bulk_row_out(first, total, request_id).model_dump_json()}\n"
        async for one in others:
            yield f"{bulk_row_out(one, total, request_id).model_dump_json()}\n"
    count_request("rest", "/v1/enrolments", "ok")


def _id(request: Request) -> str:
    request_id: str = request.state.request_id
    return request_id


def _ok(method: str, answer: BaseModel, status: int = 200) -> Response:
    count_request("rest", method, "ok")
    return Response(answer.model_dump_json(), status, media_type="application/json")
