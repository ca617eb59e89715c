"""Errors as problem+json (RFC 9457), from the one catalogue."""

from __future__ import annotations

import math
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.routing import Match, Route
from starlette.types import Scope

from services.errors import Errors, MienError
from services.gateway.rest.disconnect import CallerGoneError
from services.gateway.rest.schemas import ProblemOut
from services.telemetry import count_request, get_logger
from services.telemetry.request_id import HEADER

_log = get_logger(__name__)
MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:mien:error:"
_CLIENT_CLOSED_REQUEST = 499  # as proxies log it
_BY_STATUS = {404: Errors.NOT_FOUND, 405: Errors.METHOD_NOT_ALLOWED, 413: Errors.REQUEST_TOO_LARGE}
_SAME_AS = {"/verify": "/v1/verify"}


def problem_response(
    error: MienError, path: str, request_id: str, method: str = "other"
) -> Response:
    """An error as a REST answer.

    Args:
        error: the error.
        path: of the request.
        request_id: of the request.
        method: for the metrics, as `described_path` tells it.
    """
    kind = error.kind
    problem = ProblemOut(
        type=TYPE_PREFIX + kind.code,
        title=kind.title,
        status=kind.http,
        detail=error.detail,
        instance=path,
        code=kind.code,
        request_id=request_id,
        field=error.field,
        face_count=error.face_count,
        subject_id=error.subject_id,
        retry_after=error.retry_after,
    )
    headers = {HEADER: request_id}
    if error.retry_after is not None:
        headers["retry-after"] = str(math.ceil(error.retry_after))
    if error.error is Errors.UNAUTHENTICATED:
        headers["www-authenticate"] = 'Bearer realm="mien"'
    count_request("rest", method, kind.code)
    return JSONResponse(
        problem.model_dump(exclude_none=True),
        status_code=kind.http,
        media_type=MEDIA_TYPE,
        headers=headers,
    )


def install(app: FastAPI) -> None:
    """Makes an application answer every error as a problem."""

    @app.exception_handler(MienError)
    async def _mien_error(request: Request, error: MienError) -> Response:
        return _answer(request, error)

    @app.exception_handler(CallerGoneError)
    async def _caller_gone(request: Request, error: CallerGoneError) -> Response:
        count_request("rest", described_path(request.scope), "cancelled")
        return Response(status_code=_CLIENT_CLOSED_REQUEST)  # nobody reads it

    @app.exception_handler(HTTPException)
    async def _http_exception(request: Request, error: HTTPException) -> Response:
        kind = _BY_STATUS.get(error.status_code, Errors.MALFORMED_BODY)
        answer = _answer(request, MienError(kind, f"{kind.value.title}."))
        if kind is Errors.METHOD_NOT_ALLOWED:
            answer.headers["allow"] = ", ".join(_allowed(app, request.scope))
        return answer

    @app.exception_handler(ClientDisconnect)
    async def _caller_left(request: Request, error: ClientDisconnect) -> Response:
        return _answer(request, MienError(Errors.MALFORMED_BODY, "The body ended too early."))

    @app.exception_handler(RequestValidationError)
    async def _validation(request: Request, error: RequestValidationError) -> Response:
        field = ".".join(str(part) for part in error.errors()[0]["loc"])
        return _answer(
            request, MienError(Errors.INVALID_REQUEST, "The request is not valid.", field=field)
        )

    @app.exception_handler(Exception)
    async def _unexpected(request: Request, error: Exception) -> Response:
        _log.error("request failed", method=described_path(request.scope), exc_info=error)
        return _answer(request, MienError(Errors.INTERNAL, "The request failed inside Mien."))


def responses(*errors: Errors) -> dict[int | str, dict[str, Any]]:
    """The errors of an operation, for its OpenAPI description, with an example of each."""
    described: dict[int | str, dict[str, Any]] = {}
    for error in errors:
        kind = error.value
        entry = described.setdefault(
            kind.http,
            {"description": "", "content": {MEDIA_TYPE: {"schema": _SCHEMA, "examples": {}}}},
        )
        entry["description"] = "; ".join(filter(None, [entry["description"], kind.title]))
        entry["content"][MEDIA_TYPE]["examples"][kind.code] = {
            "summary": kind.title,
            "value": {
                "type": TYPE_PREFIX + kind.code,
                "title": kind.title,
                "status": kind.http,
                "detail": f"{kind.title}.",
                "instance": "/v1/verify",
                "code": kind.code,
                "request_id": "5f0c9d1e8b6a4c7d9e2f1a3b5c7d9e0f",
            },
        }
    return described


_SCHEMA = {"$ref": "#/components/schemas/ProblemOut"}


def _allowed(app: FastAPI, scope: Scope) -> list[str]:
    """The methods of all routes of an address; each route by itself knows only its own."""
    methods: set[str] = set()
    for route in app.routes:
        if isinstance(route, Route) and route.matches(scope)[0] is not Match.NONE:
            methods |= route.methods or set()
    return sorted(methods)


def _answer(request: Request, error: MienError) -> Response:
    path, request_id = request.url.path, request.state.request_id
    return problem_response(error, path, request_id, described_path(request.scope))


def described_path(scope: Scope) -> str:
    """The address as it is described: one as sent may hold an id, or anything, a name included."""
    described = getattr(scope.get("route"), "path", "other")
    return _SAME_AS.get(described, described)
