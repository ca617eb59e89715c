"""The REST application."""

from __future__ import annotations

from typing import Any

from fastapi import Depends, FastAPI, Request
from fastapi.openapi.utils import get_openapi
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.formparsers import MultiPartParser
from starlette.responses import Response

from services.access import Guard
from services.audit.keys import AuditedKeys
from services.errors import Errors, MienError
from services.gateway.console import add_console
from services.gateway.core import Gateway
from services.gateway.gallery_core import GalleryGateway
from services.gateway.migration_access import MigrationAccess
from services.gateway.rest import problems
from services.gateway.rest.access import admission, describe_access
from services.gateway.rest.admin_routes import add_administration
from services.gateway.rest.answers import detect_out, models_out, verify_out
from services.gateway.rest.descriptions import (
    COMMON_ERRORS,
    FILE,
    REF,
    TENANT_PARAMETER,
    body,
    describe_names,
)
from services.gateway.rest.disconnect import while_connected
from services.gateway.rest.enrolment_routes import add_enrolment
from services.gateway.rest.examples import DETECT_EXAMPLE, VERIFY_EXAMPLE
from services.gateway.rest.gallery_bodies import EnrolRow
from services.gateway.rest.gallery_inputs import tenant_of
from services.gateway.rest.gallery_schemas import BulkRowOut
from services.gateway.rest.inputs import (
    DetectJson,
    VerifyFields,
    VerifyJson,
    read_detect,
    read_verify,
)
from services.gateway.rest.key_routes import add_keys
from services.gateway.rest.middleware import RequestScope
from services.gateway.rest.migration_routes import add_migrations
from services.gateway.rest.replies import id_of, ok
from services.gateway.rest.schemas import (
    DetectOut,
    HealthOut,
    ModelsOut,
    ProblemOut,
    VerifyOut,
)
from services.gateway.rest.search_routes import add_search
from services.gateway.rest.subject_routes import add_subjects
from services.gateway.retention_loop import RetentionLoop
from services.settings import ConnectionSettings, ImageSettings

_BASE64_GROWTH = 4 / 3
_SLACK = 64 * 1024  # headers of parts, text fields


def create_app(
    gateway: Gateway,
    gallery: GalleryGateway,
    migrations: MigrationAccess,
    retention: RetentionLoop,
    image: ImageSettings,
    guard: Guard | None = None,
    keys: AuditedKeys | None = None,
    held_bytes: int = ConnectionSettings().body_bytes,
    *,
    console: bool = False,
) -> FastAPI:
    """Makes the REST application.

    Args:
        gateway: verifies and detects.
        gallery: does what concerns stored people.
        migrations: the way to migrations of the gallery.
        retention: deletes what is too old.
        image: how large pictures and how many references may be.
        guard: of all routes; None to let everybody in.
        keys: that its callers have; None likewise.
        held_bytes: bodies of all requests together that are held at once.
        console: serve the web page.
    """
    app = FastAPI(
        title="Mien",
        version="1",
        summary="Face verification and identification at stated error rates.",
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        docs_url="/docs",
        redoc_url=None,
        openapi_url="/openapi.json",
        redirect_slashes=False,
        dependencies=[] if guard is None else [Depends(admission(guard))],
    )
    largest = image.max_bytes * (image.max_references + 1)
    # Pictures stay in memory: they are never written to a temporary file.
    MultiPartParser.spool_max_size = largest + _SLACK
    problems.install(app)
    app.add_middleware(
        RequestScope,
        max_body_bytes=int(largest * _BASE64_GROWTH) + _SLACK,
        held_bytes=held_bytes,
    )
    _add_faces(app, gateway, image)
    add_subjects(app, gallery)
    add_enrolment(app, gallery)
    add_search(app, gallery)
    add_migrations(app, migrations)
    add_administration(app, gallery, retention)
    add_keys(app, keys)
    _add_operations(app, gateway, gallery)
    if console:
        add_console(app)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]  # FastAPI's documented way
    return app


def _add_faces(app: FastAPI, gateway: Gateway, image: ImageSettings) -> None:
    async def verify(request: Request) -> Response:
        gateway.refuse_if_full()
        command = await read_verify(request, image.max_references)
        answer = await while_connected(request, gateway.verify(command, tenant_of(request)))
        return ok("/v1/verify", verify_out(answer, id_of(request), command))

    @app.post(
        "/v1/detect",
        response_model=DetectOut,
        operation_id="detect",
        summary="Find every face in a picture and measure it.",
        tags=["faces"],
        responses={
            200: {"content": {"application/json": {"example": DETECT_EXAMPLE}}},
            **problems.responses(*COMMON_ERRORS),
        },
        openapi_extra=body(DetectJson, None, {"image": FILE}, ["image"]),
    )
    async def detect(request: Request) -> Response:
        gateway.refuse_if_full()
        picture = await read_detect(request)
        answer = await while_connected(request, gateway.detect(picture, "image"))
        return ok("/v1/detect", detect_out(answer, id_of(request)))

    app.post(
        "/v1/verify",
        response_model=VerifyOut,
        operation_id="verify",
        summary="Say whether a probe and its references show the same person.",
        tags=["faces"],
        responses={
            200: {"content": {"application/json": {"example": VERIFY_EXAMPLE}}},
            **problems.responses(
                *COMMON_ERRORS,
                Errors.FACE_INDEX_OUT_OF_RANGE,
                Errors.MODEL_UNKNOWN,
                Errors.THRESHOLD_UNKNOWN,
                Errors.EMBEDDING_UNAVAILABLE,
            ),
        },
        openapi_extra=body(
            VerifyJson,
            VerifyFields,
            {"probe": FILE, "reference": {"type": "array", "items": FILE, "minItems": 1}},
            ["probe", "reference"],
            TENANT_PARAMETER,
        ),
    )(verify)
    app.post("/verify", include_in_schema=False)(verify)


def _add_operations(app: FastAPI, gateway: Gateway, gallery: GalleryGateway) -> None:
    @app.get(
        "/v1/models",
        response_model=ModelsOut,
        operation_id="listModels",
        summary="List the embedding models that are served, with their thresholds.",
        tags=["models"],
        responses=problems.responses(Errors.EMBEDDING_UNAVAILABLE),
    )
    async def models() -> Response:
        return ok("/v1/models", models_out(await gateway.models()))

    @app.get("/healthz/live", response_model=HealthOut, operation_id="live", tags=["health"])
    async def live() -> HealthOut:
        """The process answers."""
        return HealthOut(status="live")

    @app.get(
        "/healthz/ready",
        response_model=HealthOut,
        operation_id="ready",
        tags=["health"],
        responses=problems.responses(Errors.NOT_READY),
    )
    async def ready() -> HealthOut:
        """The models are loaded and warm; requests are welcome."""
        if not gateway.is_ready:
            raise MienError(Errors.NOT_READY, "The models are not loaded yet.", retry_after=1.0)
        return HealthOut(status="ready")

    @app.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        await gallery.access.measure()
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


# Shapes that FastAPI does not meet in a handler's signature, and what they use.
_SHAPES = (VerifyFields, EnrolRow, BulkRowOut)


def _openapi(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title,
            version=app.version,
            summary=app.summary,
            license_info=app.license_info,
            routes=app.routes,
        )
        schemas = document["components"]["schemas"]
        schemas["ProblemOut"] = ProblemOut.model_json_schema()
        for shape in _SHAPES:
            own = shape.model_json_schema(ref_template=REF)
            schemas.update(own.pop("$defs", {}))
            schemas[shape.__name__] = own
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        describe_access(document)
        describe_names(document)
        app.openapi_schema = document
    return app.openapi_schema
