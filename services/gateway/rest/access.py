"""REST: lets callers in before their body is read, and describes how."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import HTTPConnection

from services.access import Guard, rest_rule
from services.errors import Errors
from services.gateway.rest import problems
from services.gateway.rest.gallery_inputs import TENANT_HEADER

_SCHEMES = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "an API key, or a token (JWT) of the trusted issuer",
    },
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}
_ERRORS = (
    Errors.UNAUTHENTICATED,
    Errors.PERMISSION_DENIED,
    Errors.RATE_LIMITED,
    Errors.ACCESS_UNAVAILABLE,
)


def admission(guard: Guard) -> Callable[[HTTPConnection], Awaitable[None]]:
    """A dependency of every route: it runs where the route is known and the body is not read."""

    async def admit(connection: HTTPConnection) -> None:
        headers, path = connection.headers, connection.scope["route"].path
        await guard.admit(
            guard.rest_rule(connection.scope["method"], path),
            headers.get("authorization"),
            headers.get("x-api-key"),
            headers.get(TENANT_HEADER),
        )

    return admit


def describe_access(document: dict[str, Any]) -> None:
    """Adds to an OpenAPI description what each operation asks of its caller."""
    document["components"]["securitySchemes"] = _SCHEMES
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            rule = rest_rule(method.upper(), path)
            if rule.is_open:
                continue
            operation["security"] = [{name: []} for name in _SCHEMES]
            if rule.action is not None:
                operation["x-mien-action"] = rule.action.value
            for status, refusal in problems.responses(*_ERRORS).items():
                _add(operation["responses"], str(status), refusal)


def _add(responses: dict[str, Any], status: str, refusal: dict[str, Any]) -> None:
    there = responses.get(status)
    if there is None:
        responses[status] = refusal
        return
    there["description"] = f"{there['description']}; {refusal['description']}"
    examples = there["content"][problems.MEDIA_TYPE]["examples"]
    examples.update(refusal["content"][problems.MEDIA_TYPE]["examples"])
