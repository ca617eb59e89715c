"""How the tests talk to REST, and what every problem has in common."""

from __future__ import annotations

import base64
import re
from typing import Any

import httpx

from services.errors import BY_CODE
from services.gateway.rest.schemas import ProblemOut

NEVER_READ = ("face.jpg", b"never read")


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


def files(**given: bytes) -> list[tuple[str, tuple[str, bytes]]]:
    return [(name, (f"{name}.jpg", data)) for name, data in given.items()]


def problem(response: httpx.Response, code: str) -> dict[str, Any]:
    """The answer as a problem, after all that every problem has in common."""
    kind = BY_CODE[code].value
    assert response.status_code == kind.http, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    ProblemOut.model_validate(body)
    assert set(body) >= {"type", "title", "status", "detail", "instance", "code", "request_id"}
    assert body["type"] == f"urn:mien:error:{code}"
    assert (body["code"], body["title"], body["status"]) == (code, kind.title, kind.http)
    assert body["instance"] == response.request.url.path
    assert body["request_id"] == response.headers["x-request-id"]
    assert re.fullmatch(r"\w.*\.", body["detail"]), body["detail"]
    assert not re.search(r"Traceback|Error\b|Exception|Value error|File \"", body["detail"])
    assert "retry_after" not in body or int(response.headers["retry-after"]) >= 1
    return body
