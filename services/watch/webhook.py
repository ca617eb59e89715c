"""Events as signed HTTP posts to an address of the operator's own."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
import uuid
from urllib.parse import urlsplit

import httpx

from services.watch.delivery import DeliveryError, Payload, TryAgainError

SIGNATURE = "X-Mien-Signature"
"""Header: t=SECONDS,v1=HEX, the HMAC-SHA256 of "SECONDS.BODY" under the shared secret."""

EVENT_ID = "X-Mien-Event-Id"
"""Header: the same in every attempt to deliver an event, so that repeats can be told."""

_TIMEOUT = 5.0
_BUSY = frozenset({408, 425, 429})


class Webhook:
    """Posts each event as JSON.

    Args:
        url: http or https; redirects are not followed.
        secret: shared with the receiver; posts are not signed without one.
    """

    def __init__(self, url: str, secret: str) -> None:
        self.name = f"webhook {urlsplit(url).hostname}"
        self._url, self._secret = url, secret.encode()
        self._client = httpx.AsyncClient(timeout=_TIMEOUT, trust_env=False)
        self._last: tuple[Payload, str] | None = None

    async def deliver(self, payload: Payload) -> None:
        """See `Receiver`."""
        body = json.dumps(payload, separators=(",", ":")).encode()
        headers = {"Content-Type": "application/json", EVENT_ID: self._event_id(payload)}
        if self._secret:
            headers[SIGNATURE] = signature(self._secret, int(time.time()), body)
        try:
            response = await self._client.post(self._url, content=body, headers=headers)
        except httpx.TransportError as error:
            raise TryAgainError(f"no answer ({type(error).__name__})") from error
        status = response.status_code
        if status >= httpx.codes.INTERNAL_SERVER_ERROR or status in _BUSY:
            raise TryAgainError(f"answered {status}")
        if not response.is_success:
            raise DeliveryError(f"answered {status}")

    def _event_id(self, payload: Payload) -> str:
        if self._last is None or self._last[0] is not payload:
            self._last = (payload, str(uuid.uuid4()))
        return self._last[1]

    async def close(self) -> None:
        """See `Receiver`."""
        await self._client.aclose()


def signature(secret: bytes, seconds: int, body: bytes) -> str:
    """The signature header of a post.

    Args:
        secret: shared with the receiver.
        seconds: since the epoch; a receiver refuses old ones, against replay.
        body: of the post.
    """
    digest = hmac.new(secret, b"%d." % seconds + body, hashlib.sha256).hexdigest()
    return f"t={seconds},v1={digest}"
