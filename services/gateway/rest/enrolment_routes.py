"""REST: enrolment, of one subject or of many."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from fastapi import FastAPI, Request
from starlette.responses import Response, StreamingResponse

from services.errors import Errors
from services.gateway.bulk_enrolment import BulkAnswer
from services.gateway.gallery_core import GalleryGateway
from services.gateway.rest import problems
from services.gateway.rest.bulk_rows import JSON_LINES, ZIP, read_rows
from services.gateway.rest.descriptions import (
    FACES,
    FILE,
    FILES,
    KEY_PARAMETER,
    SUBJECT,
    TENANT_PARAMETER,
    UNAVAILABLE,
    body,
)
from services.gateway.rest.disconnect import while_connected
from services.gateway.rest.gallery_answers import bulk_row_out, enrol_out
from services.gateway.rest.gallery_bodies import EnrolFields, EnrolJson, EnrolRow
from services.gateway.rest.gallery_inputs import read_enrolment, tenant_of
from services.gateway.rest.gallery_schemas import BulkRowOut, EnrolOut
from services.gateway.rest.replies import id_of, ok
from services.telemetry import count_request

_ENROL_ERRORS = (
    *FACES,
    Errors.DUPLICATE_SUBJECT,
    Errors.CONSENT_WITHDRAWN,
    Errors.IDEMPOTENCY_KEY_REUSED,
)
_ROW = {"$ref": f"#/components/schemas/{EnrolRow.__name__}"}
_ROW_ANSWER = {"$ref": f"#/components/schemas/{BulkRowOut.__name__}"}


def add_enrolment(app: FastAPI, gallery: GalleryGateway) -> None:
    """Adds the routes.

    Args:
        app: the application.
        gallery: does the work.
    """

    @app.post(
        f"{SUBJECT}/templates",
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
            EnrolJson, EnrolFields, {"picture": FILES}, [], TENANT_PARAMETER, KEY_PARAMETER
        ),
    )
    async def enrol(request: Request, subject_id: str) -> Response:
        gallery.capacity.refuse_if_full()
        tenant = tenant_of(request)
        command = await read_enrolment(request, subject_id, gallery.settings.enrolment.max_pictures)
        answer = await while_connected(request, gallery.enroller.enrol(tenant, command))
        shown = enrol_out(answer, id_of(request))
        return ok(f"{SUBJECT}/templates", shown, 201 if shown.outcome == "enrolled" else 200)

    @app.post(
        "/v1/enrolments",
        operation_id="enrolMany",
        summary="Enrol many subjects; the answer tells row by row what became of each.",
        tags=["subjects"],
        response_class=StreamingResponse,
        responses={
            200: {
                "description": "one JSON object a line, in the order of the rows",
                "content": {JSON_LINES: {"schema": _ROW_ANSWER}},
            },
            **problems.responses(
                *UNAVAILABLE,
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
                    JSON_LINES: {"schema": _ROW},
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
        lines = _lines(first, answers, read.total, id_of(request))
        return StreamingResponse(lines, media_type=JSON_LINES)


async def _lines(
    first: BulkAnswer, others: AsyncGenerator[BulkAnswer], total: int, request_id: str
) -> AsyncIterator[str]:
    async with aclosing(others):
        yield f"{bulk_row_out(first, total, request_id).model_dump_json()}\n"
        async for one in others:
            yield f"{bulk_row_out(one, total, request_id).model_dump_json()}\n"
    count_request("rest", "/v1/enrolments", "ok")
