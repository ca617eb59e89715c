"""What every REST answer has in common."""

from __future__ import annotations

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from services.telemetry import count_request


def id_of(request: Request) -> str:
    """The request's id."""
    request_id: str = request.state.request_id
    return request_id


def ok(method: str, answer: BaseModel, status: int = 200) -> Response:
    """An answer as JSON, counted.

    Args:
        method: address as it is described; one as sent may hold an id.
        answer: what is answered.
        status: HTTP status.
    """
    count_request("rest", method, "ok")
    return Response(answer.model_dump_json(), status, media_type="application/json")
