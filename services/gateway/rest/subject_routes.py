"""REST: what is stored of people, without their faces."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from starlette.responses import Response

from services.errors import Errors
from services.gateway.gallery_core import GalleryGateway
from services.gateway.rest import problems
from services.gateway.rest.descriptions import (
    KEY_PARAMETER,
    KNOWN,
    SUBJECT,
    TENANT_PARAMETER,
    UNAVAILABLE,
    json_only,
)
from services.gateway.rest.gallery_answers import (
    consent_out,
    created_out,
    deletion_out,
    export_out,
    subject_templates_out,
    subjects_out,
)
from services.gateway.rest.gallery_bodies import ConsentBody, SubjectBody
from services.gateway.rest.gallery_inputs import (
    flag_of,
    limit_of,
    read_consent,
    read_subject,
    tenant_of,
)
from services.gateway.rest.gallery_schemas import (
    ConsentOut,
    CreatedOut,
    DeletionOut,
    ExportOut,
    SubjectsOut,
    SubjectTemplatesOut,
)
from services.gateway.rest.replies import id_of, ok

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


_VECTORS: list[dict[str, Any]] = [
    {
        "name": "vectors",
        "in": "query",
        "description": "tell the vectors too; a vector is a face",
        "schema": {"type": "boolean", "default": False},
    },
]


def add_subjects(app: FastAPI, gallery: GalleryGateway) -> None:
    """Adds the routes.

    Args:
        app: the application.
        gallery: does the work.
    """

    @app.post(
        "/v1/subjects",
        status_code=201,
        response_model=CreatedOut,
        operation_id="createSubject",
        summary="Store a subject without templates.",
        tags=["subjects"],
        responses={
            200: {"model": CreatedOut, "description": "the key's subject was there already"},
            **problems.responses(
                *UNAVAILABLE,
                Errors.MALFORMED_BODY,
                Errors.UNSUPPORTED_MEDIA_TYPE,
                Errors.SUBJECT_EXISTS,
                Errors.IDEMPOTENCY_KEY_REUSED,
            ),
        },
        openapi_extra=json_only(SubjectBody, TENANT_PARAMETER, KEY_PARAMETER),
    )
    async def create(request: Request) -> Response:
        tenant = tenant_of(request)
        command = await read_subject(request)
        made = await gallery.subjects.create(tenant, command)
        shown = created_out(made, id_of(request))
        return ok("/v1/subjects", shown, 200 if made.repeated else 201)

    @app.get(
        "/v1/subjects",
        response_model=SubjectsOut,
        operation_id="listSubjects",
        summary="List subjects by id, page by page.",
        tags=["subjects"],
        responses=problems.responses(*UNAVAILABLE),
        openapi_extra={"parameters": [TENANT_PARAMETER, *_PAGING]},
    )
    async def page(request: Request) -> Response:
        cursor = request.query_params.get("cursor", "")
        found = await gallery.subjects.page(tenant_of(request), cursor, limit_of(request))
        return ok("/v1/subjects", subjects_out(found, id_of(request)))

    @app.get(
        SUBJECT,
        response_model=SubjectTemplatesOut,
        operation_id="getSubject",
        summary="One subject with its templates (without their vectors).",
        tags=["subjects"],
        responses=problems.responses(*KNOWN),
        openapi_extra={"parameters": [TENANT_PARAMETER]},
    )
    async def get(request: Request, subject_id: str) -> Response:
        found = await gallery.subjects.get(tenant_of(request), subject_id)
        return ok(SUBJECT, subject_templates_out(found, id_of(request)))

    @app.get(
        f"{SUBJECT}/export",
        response_model=ExportOut,
        operation_id="exportSubject",
        summary="All that is stored of a person: subject, templates, keys, audit records.",
        tags=["subjects"],
        responses=problems.responses(*KNOWN),
        openapi_extra={"parameters": [TENANT_PARAMETER, *_VECTORS]},
    )
    async def export(request: Request, subject_id: str) -> Response:
        vectors = flag_of(request, "vectors")
        found = await gallery.exporter.export(tenant_of(request), subject_id, vectors=vectors)
        return ok(f"{SUBJECT}/export", export_out(found, id_of(request)))

    @app.delete(
        SUBJECT,
        response_model=DeletionOut,
        operation_id="deleteSubject",
        summary="Delete every trace of a subject, and tell what a second look found.",
        tags=["subjects"],
        responses=problems.responses(*KNOWN),
        openapi_extra={"parameters": [TENANT_PARAMETER]},
    )
    async def delete(request: Request, subject_id: str) -> Response:
        report = await gallery.subjects.delete(tenant_of(request), subject_id)
        return ok(SUBJECT, deletion_out(report, id_of(request)))

    @app.put(
        f"{SUBJECT}/consent",
        response_model=ConsentOut,
        operation_id="setConsent",
        summary="Withdraw consent, or give it again.",
        tags=["subjects"],
        responses=problems.responses(*KNOWN, Errors.MALFORMED_BODY, Errors.UNSUPPORTED_MEDIA_TYPE),
        openapi_extra=json_only(ConsentBody, TENANT_PARAMETER),
    )
    async def consent(request: Request, subject_id: str) -> Response:
        tenant = tenant_of(request)
        given = await read_consent(request)
        changed = await gallery.subjects.set_consent(tenant, subject_id, given=given)
        return ok(f"{SUBJECT}/consent", consent_out(changed, id_of(request)))

    @app.delete(
        f"{SUBJECT}/templates/{{template_id}}",
        response_model=DeletionOut,
        operation_id="deleteTemplate",
        summary="Delete one template in all model versions.",
        tags=["subjects"],
        responses=problems.responses(*KNOWN, Errors.TEMPLATE_UNKNOWN),
        openapi_extra={"parameters": [TENANT_PARAMETER]},
    )
    async def delete_template(request: Request, subject_id: str, template_id: str) -> Response:
        tenant = tenant_of(request)
        report = await gallery.subjects.delete_template(tenant, subject_id, template_id)
        return ok(f"{SUBJECT}/templates/{{template_id}}", deletion_out(report, id_of(request)))
