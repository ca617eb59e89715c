"""REST for operators: data keys, the master key, retention, and the end of a tenant."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from starlette.responses import Response

from services.audit.gallery import KeyAdministration
from services.errors import Errors, MienError
from services.gallery.checks import checked_tenant
from services.gateway.gallery_core import GalleryGateway
from services.gateway.rest import problems
from services.gateway.rest.admin_schemas import (
    DataKeysOut,
    DueOut,
    RetentionIn,
    RetentionOut,
    RewrapOut,
    RotateIn,
    TenantKeyOut,
)
from services.gateway.rest.bodies import JSON, json_body, media_type, validated
from services.gateway.rest.descriptions import UNAVAILABLE, json_only
from services.gateway.rest.gallery_answers import deletion_out
from services.gateway.rest.gallery_schemas import DeletionOut
from services.gateway.rest.replies import id_of, ok
from services.gateway.retention_loop import RetentionLoop
from services.retention import Run
from services.settings import SettingsError

KEYS = "/v1/gallery/keys"
RETENTION = "/v1/gallery/retention"
TENANT = "/v1/gallery/tenants/{tenant}"
_BODY = (*UNAVAILABLE, Errors.MALFORMED_BODY, Errors.UNSUPPORTED_MEDIA_TYPE)


def add_administration(app: FastAPI, gallery: GalleryGateway, retention: RetentionLoop) -> None:
    """Adds the routes.

    Args:
        app: the application.
        gallery: whose keys and tenants.
        retention: its rules.
    """

    async def keys() -> KeyAdministration:
        try:
            opened = await gallery.access.gallery()
            return KeyAdministration(opened, gallery.settings.gallery)
        except SettingsError as error:
            raise MienError(Errors.INVALID_REQUEST, str(error)) from error

    async def told(request: Request, administration: KeyAdministration) -> Response:
        rows = [TenantKeyOut(**vars(one)) for one in await administration.all()]
        return ok(KEYS, DataKeysOut(keys=rows, request_id=id_of(request)))

    @app.get(
        KEYS,
        response_model=DataKeysOut,
        operation_id="listDataKeys",
        summary="List the data keys of all tenants, and what is still sealed with older ones.",
        tags=["administration"],
        responses=problems.responses(*UNAVAILABLE),
    )
    async def every(request: Request) -> Response:
        return await told(request, await keys())

    @app.post(
        f"{KEYS}/rotate",
        response_model=DataKeysOut,
        operation_id="rotateDataKeys",
        summary="Give tenants new data keys; their rows are sealed anew in the background.",
        tags=["administration"],
        responses=problems.responses(*_BODY),
        openapi_extra=json_only(RotateIn),
    )
    async def rotate(request: Request) -> Response:
        media_type(request, JSON)
        asked = validated(RotateIn, await json_body(request))
        administration = await keys()
        await administration.rotate([checked_tenant(one) for one in asked.tenants])
        return await told(request, administration)

    @app.post(
        f"{KEYS}/rewrap",
        response_model=RewrapOut,
        operation_id="rewrapDataKeys",
        summary="Wrap all data keys with a new master key, in the place of the old one's file.",
        tags=["administration"],
        responses=problems.responses(*UNAVAILABLE),
    )
    async def rewrap(request: Request) -> Response:
        file = await (await keys()).rewrap()
        shown = RewrapOut(file=str(file), request_id=id_of(request))
        return ok(f"{KEYS}/rewrap", shown)

    @app.post(
        RETENTION,
        response_model=RetentionOut,
        operation_id="runRetention",
        summary="Say what the rules of retention ask to delete, or delete it now.",
        tags=["administration"],
        responses=problems.responses(*_BODY, Errors.MIGRATION_BUSY),
        openapi_extra=json_only(RetentionIn),
    )
    async def retain(request: Request) -> Response:
        media_type(request, JSON)
        asked = validated(RetentionIn, await json_body(request))
        run = await retention.run(dry=asked.dry_run, accept_clock=asked.accept_clock)
        return ok(RETENTION, retention_out(run, id_of(request)))

    @app.delete(
        TENANT,
        response_model=DeletionOut,
        operation_id="deleteTenant",
        summary="Delete a tenant with all that is stored of it, and destroy its keys.",
        tags=["administration"],
        responses=problems.responses(*UNAVAILABLE),
    )
    async def delete(request: Request, tenant: str) -> Response:
        report = await (await keys()).delete_tenant(checked_tenant(tenant))
        return ok(TENANT, deletion_out(report, id_of(request)))


def retention_out(run: Run, request_id: str) -> RetentionOut:
    """Makes the answer to a run of retention."""
    due: list[dict[str, Any]] = [
        {
            "rule": one.rule,
            "since": one.since,
            "tenant": one.tenant or None,
            "subject_id": one.subject_id or None,
            "model": None if one.space is None else one.space.reference,
        }
        for one in run.due
    ]
    return RetentionOut(
        due=[DueOut(**one) for one in due],
        deleted=len(run.deleted),
        unproven=sum(not one.verified for one in run.deleted),
        dropped=run.dropped,
        held=run.held or None,
        dry_run=run.dry,
        request_id=request_id,
    )
