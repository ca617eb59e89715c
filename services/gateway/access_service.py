"""gRPC about API keys: a thin skin over `services.audit.keys`."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import grpc

from services.access import Action
from services.access.keys import USUAL_GRACE, Key, seconds_span, span, state
from services.audit.keys import AuditedKeys, managed
from services.gateway.face_messages import invalid
from services.rpc.mien.v1 import access_pb2, access_pb2_grpc
from services.rpc.server import answer

SERVICE_NAME = access_pb2.DESCRIPTOR.services_by_name["AccessService"].full_name
_Context = grpc.aio.ServicerContext[Any, Any]

_ACTIONS = {access_pb2.AccessAction.Value(f"ACCESS_ACTION_{one.name}"): one for one in Action}
_ACTIONS_OUT = {action: number for number, action in _ACTIONS.items()}


class AccessServicer(access_pb2_grpc.AccessServiceServicer):
    """`mien.v1.AccessService`.

    Args:
        keys: that are managed; None where callers need not be known.
    """

    def __init__(self, keys: AuditedKeys | None) -> None:
        self._keys = keys

    async def CreateKey(  # noqa: N802 - gRPC's name
        self, request: access_pb2.CreateKeyRequest, context: _Context
    ) -> access_pb2.CreateKeyResponse:
        """Makes a key."""

        async def work(request_id: str) -> access_pb2.CreateKeyResponse:
            keys, seconds = managed(self._keys), request.expires_in_seconds
            has_end = request.HasField("expires_in_seconds")
            key, secret = await keys.create(
                request.tenant,
                [_action(number) for number in request.allow],
                name=request.name,
                rate=request.rate if request.HasField("rate") else None,
                lasting=seconds_span(seconds, "expires_in_seconds") if has_end else None,
            )
            return access_pb2.CreateKeyResponse(
                key=_told(key), secret=secret.text, request_id=request_id
            )

        return await answer(context, "CreateKey", work)

    async def ListKeys(  # noqa: N802 - gRPC's name
        self, request: access_pb2.ListKeysRequest, context: _Context
    ) -> access_pb2.ListKeysResponse:
        """Lists all keys."""
        del request

        async def work(request_id: str) -> access_pb2.ListKeysResponse:
            found = await managed(self._keys).all()
            return access_pb2.ListKeysResponse(keys=map(_told, found), request_id=request_id)

        return await answer(context, "ListKeys", work)

    async def RotateKey(  # noqa: N802 - gRPC's name
        self, request: access_pb2.RotateKeyRequest, context: _Context
    ) -> access_pb2.RotateKeyResponse:
        """Gives a key a new secret."""

        async def work(request_id: str) -> access_pb2.RotateKeyResponse:
            given = request.HasField("grace_seconds")
            seconds, usual = request.grace_seconds, span(USUAL_GRACE, "grace")
            grace = seconds_span(seconds, "grace_seconds") if given else usual
            key, secret = await managed(self._keys).rotate(request.id, grace)
            return access_pb2.RotateKeyResponse(
                key=_told(key), secret=secret.text, request_id=request_id
            )

        return await answer(context, "RotateKey", work)

    async def RevokeKey(  # noqa: N802 - gRPC's name
        self, request: access_pb2.RevokeKeyRequest, context: _Context
    ) -> access_pb2.RevokeKeyResponse:
        """Ends a key for good."""

        async def work(request_id: str) -> access_pb2.RevokeKeyResponse:
            key = await managed(self._keys).revoke(request.id)
            return access_pb2.RevokeKeyResponse(key=_told(key), request_id=request_id)

        return await answer(context, "RevokeKey", work)


def _action(number: access_pb2.AccessAction.ValueType) -> Action:
    if number not in _ACTIONS:
        raise invalid("allow", "This action is not known.")
    return _ACTIONS[number]


def _told(key: Key) -> access_pb2.ApiKey:
    return access_pb2.ApiKey(
        id=key.id,
        tenant=key.tenant,
        allow=[_ACTIONS_OUT[one] for one in sorted(key.actions)],
        name=key.name,
        rate=key.rate,
        state=access_pb2.KeyState.Value(f"KEY_STATE_{state(key).upper()}"),
        created=key.created.timestamp(),
        expires=_seconds(key.expires),
        revoked=_seconds(key.revoked),
        last_used=_seconds(key.last_used),
        old_secret_until=_seconds(key.old_until),
    )


def _seconds(when: datetime | None) -> float | None:
    return None if when is None else when.timestamp()
