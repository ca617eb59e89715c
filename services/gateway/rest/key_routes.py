"""REST: API keys, for administrators."""

from __future__ import annotations

from typing import Literal

from fastapi import FastAPI, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from services.access import Action
from services.access.keys import USUAL_GRACE, key_facts, span
from services.audit.keys import AuditedKeys, managed
from services.errors import Errors
from services.gateway.rest import problems
from services.gateway.rest.bodies import JSON, json_body, media_type, validated
from services.gateway.rest.descriptions import json_only
from services.gateway.rest.replies import id_of, ok

ALL = "/v1/keys"
ONE = "/v1/keys/{id}"
_BODY = (Errors.INVALID_REQUEST, Errors.MALFORMED_BODY, Errors.UNSUPPORTED_MEDIA_TYPE)


class KeyIn(BaseModel):
    """A key that is to be made."""

    model_config = ConfigDict(extra="forbid")

    tenant: str = Field(description="whose people it may see; '*' for all tenants")
    allow: list[Action] = Field(min_length=1, description="what it may do")
    name: str = Field("", max_length=100, description="a label of your own")
    expires_in: str | None = Field(None, description="a length of time, like 90d or 24h")
    rate: str | None = Field(None, description="requests that it may send, like 600/minute")


class RotateIn(BaseModel):
    """How a key gets its next secret."""

    model_config = ConfigDict(extra="forbid")

    grace: str = Field(USUAL_GRACE, description="how long the old secret is taken too")


class KeyOut(BaseModel):
    """A key without its secret."""

    id: str
    tenant: str
    allow: list[Action]
    name: str
    rate: str | None
    state: Literal["active", "expired", "revoked"]
    created: str
    expires: str | None
    revoked: str | None
    last_used: str | None = Field(description="to the minute")
    old_secret_until: str | None


class KeysOut(BaseModel):
    """All keys."""

    keys: list[KeyOut]
    request_id: str


class KeyAnswer(BaseModel):
    """One key."""

    key: KeyOut
    request_id: str


class SecretAnswer(KeyAnswer):
    """One key, and its secret, this once."""

    secret: str = Field(repr=False)


def add_keys(app: FastAPI, keys: AuditedKeys | None) -> None:
    """Adds the routes.

    Args:
        app: the application.
        keys: that are managed; None where callers need not be known.
    """

    @app.post(
        ALL,
        status_code=201,
        response_model=SecretAnswer,
        operation_id="createKey",
        summary="Make an API key; its secret is in this answer alone.",
        tags=["keys"],
        responses=problems.responses(*_BODY),
        openapi_extra=json_only(KeyIn),
    )
    async def create(request: Request) -> Response:
        own = managed(keys)
        media_type(request, JSON)
        asked = validated(KeyIn, await json_body(request))
        lasting = None if asked.expires_in is None else span(asked.expires_in, "expires_in")
        key, secret = await own.create(
            asked.tenant, asked.allow, name=asked.name, rate=asked.rate, lasting=lasting
        )
        shown = KeyOut(**key_facts(key))
        return ok(ALL, SecretAnswer(key=shown, secret=secret.text, request_id=id_of(request)), 201)

    @app.get(
        ALL,
        response_model=KeysOut,
        operation_id="listKeys",
        summary="List all API keys, without their secrets.",
        tags=["keys"],
    )
    async def every(request: Request) -> Response:
        shown = [KeyOut(**key_facts(one)) for one in await managed(keys).all()]
        return ok(ALL, KeysOut(keys=shown, request_id=id_of(request)))

    @app.post(
        f"{ONE}/rotate",
        response_model=SecretAnswer,
        operation_id="rotateKey",
        summary="Give an API key a new secret; the old one is taken for a while beside it.",
        tags=["keys"],
        responses=problems.responses(*_BODY, Errors.KEY_UNKNOWN),
        openapi_extra=json_only(RotateIn),
    )
    async def rotate(request: Request, id: str) -> Response:  # noqa: A002 - the path's name
        own = managed(keys)
        media_type(request, JSON)
        asked = validated(RotateIn, await json_body(request))
        key, secret = await own.rotate(id, span(asked.grace, "grace"))
        shown = KeyOut(**key_facts(key))
        answer = SecretAnswer(key=shown, secret=secret.text, request_id=id_of(request))
        return ok(f"{ONE}/rotate", answer)

    @app.delete(
        ONE,
        response_model=KeyAnswer,
        operation_id="revokeKey",
        summary="End an API key for good.",
        tags=["keys"],
        responses=problems.responses(Errors.INVALID_REQUEST, Errors.KEY_UNKNOWN),
    )
    async def revoke(request: Request, id: str) -> Response:  # noqa: A002
        key = await managed(keys).revoke(id)
        return ok(ONE, KeyAnswer(key=KeyOut(**key_facts(key)), request_id=id_of(request)))
