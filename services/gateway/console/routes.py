"""Serves the console's files: a fixed set, read at the start."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import resources
from pathlib import PurePath

from fastapi import FastAPI, Request
from starlette.responses import RedirectResponse, Response

from services.errors import Errors, MienError
from services.settings import GatewaySettings, is_loopback
from services.telemetry import count_request

PAGE = "index.html"
ROOT = "/console/"
_FILE = "/console/{file}"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
HEADERS = {
    "content-security-policy": _POLICY,
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    # Asked for anew each time, so that page and service are of one version; ETags make it cheap.
    "cache-control": "no-cache",
}
_NOT_MODIFIED = 304


@dataclass(frozen=True)
class _File:
    """A file of the console.

    Attributes:
        data: its bytes.
        media_type: what it is.
        tag: its ETag.
    """

    data: bytes
    media_type: str
    tag: str


def is_on(gateway: GatewaySettings, *, asks_for_keys: bool) -> bool:
    """Whether the console is served.

    Args:
        gateway: where it listens, and what is said of the console.
        asks_for_keys: callers must be known.
    """
    is_local = is_loopback(gateway.http_host) and is_loopback(gateway.grpc_host)
    return gateway.console == "on" or (gateway.console == "auto" and is_local and not asks_for_keys)


def add_console(app: FastAPI) -> None:
    """Adds the routes. They are open: the files tell nothing that is not in the public source.

    Args:
        app: the application.
    """
    files = _read()

    def answer(request: Request, name: str, route: str) -> Response:
        found = files.get(name)
        if found is None:
            raise MienError(Errors.NOT_FOUND, f"{Errors.NOT_FOUND.value.title}.")
        count_request("rest", route, "ok")
        headers = {**HEADERS, "etag": found.tag}
        if request.headers.get("if-none-match") == found.tag:
            return Response(status_code=_NOT_MODIFIED, headers=headers)
        return Response(found.data, media_type=found.media_type, headers=headers)

    @app.get("/console", include_in_schema=False)
    async def bare() -> Response:
        count_request("rest", "/console", "ok")
        # Relative, so that it holds behind a proxy that puts a path before it.
        return RedirectResponse("console/", headers=HEADERS)

    @app.get(ROOT, include_in_schema=False)
    async def page(request: Request) -> Response:
        return answer(request, PAGE, ROOT)

    @app.get(_FILE, include_in_schema=False)
    async def file(request: Request, file: str) -> Response:
        return answer(request, file, _FILE)


def _read() -> dict[str, _File]:
    found = {}
    for one in resources.files("services.gateway.console").joinpath("static").iterdir():
        media_type = _TYPES.get(PurePath(one.name).suffix)
        if media_type is not None:
            data = one.read_bytes()
            tag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
            found[one.name] = _File(data, media_type, tag)
    return found
