"""REST: verification against a subject, identification, and what the gallery is."""

from __future__ import annotations

from fastapi import FastAPI, Request
from starlette.responses import Response

from services.errors import Errors
from services.gateway.gallery_core import GalleryGateway
from services.gateway.rest import problems
from services.gateway.rest.descriptions import (
    FACES,
    FILE,
    FILES,
    SUBJECT,
    TENANT_PARAMETER,
    UNAVAILABLE,
    body,
)
from services.gateway.rest.disconnect import while_connected
from services.gateway.rest.gallery_answers import gallery_out, identify_out, verify_subject_out
from services.gateway.rest.gallery_bodies import (
    IdentifyFields,
    IdentifyJson,
    VerifySubjectFields,
    VerifySubjectJson,
)
from services.gateway.rest.gallery_inputs import read_identify, read_verify_subject, tenant_of
from services.gateway.rest.gallery_schemas import GalleryOut, IdentifyOut, VerifySubjectOut
from services.gateway.rest.replies import id_of, ok


def add_search(app: FastAPI, gallery: GalleryGateway) -> None:
    """Adds the routes.

    Args:
        app: the application.
        gallery: does the work.
    """

    @app.post(
        f"{SUBJECT}/verify",
        response_model=VerifySubjectOut,
        operation_id="verifySubject",
        summary="Say whether a picture or a vector is of one stored subject.",
        tags=["subjects"],
        responses=problems.responses(
            *FACES,
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
        return ok(f"{SUBJECT}/verify", verify_subject_out(answer, id_of(request)))

    @app.post(
        "/v1/identify",
        response_model=IdentifyOut,
        operation_id="identify",
        summary="Say who is seen in pictures, or whom vectors are of.",
        tags=["gallery"],
        responses=problems.responses(*FACES, Errors.THRESHOLD_UNKNOWN, Errors.GALLERY_EMPTY),
        openapi_extra=body(
            IdentifyJson, IdentifyFields, {"picture": FILES}, ["picture"], TENANT_PARAMETER
        ),
    )
    async def identify(request: Request) -> Response:
        gallery.capacity.refuse_if_full()
        tenant = tenant_of(request)
        command = await read_identify(request, gallery.settings.identification.max_pictures)
        answer = await while_connected(request, gallery.identifier.identify(tenant, command))
        return ok("/v1/identify", identify_out(answer, id_of(request)))

    @app.get(
        "/v1/gallery",
        response_model=GalleryOut,
        operation_id="describeGallery",
        summary="Which model the gallery lives by, and how full it is.",
        tags=["gallery"],
        responses=problems.responses(*UNAVAILABLE, Errors.EMBEDDING_UNAVAILABLE),
        openapi_extra={"parameters": [TENANT_PARAMETER]},
    )
    async def describe(request: Request) -> Response:
        info = await gallery.models.describe(tenant_of(request))
        return ok("/v1/gallery", gallery_out(info, gallery.settings.gallery.fpir, id_of(request)))
