"""What happens to every REST request: id and size limit."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.errors import Errors, MienError
from services.gateway.rest.problems import described_path, problem_response
from services.telemetry import new_request_id, timed_request, use_request_id
from services.telemetry.request_id import HEADER

_UNTRACED = ("/healthz", "/metrics")  # asked every few seconds, and of no interest


class RequestScope:
    """Gives each request its id, and refuses bodies over the limit before they are kept.

    Args:
        app: the application inside.
        max_body_bytes: largest body.
        held_bytes: of the bodies of all requests at work, and no less than one may have.
    """

    def __init__(self, app: ASGIApp, max_body_bytes: int, held_bytes: int) -> None:
        self._app = app
        self._max = max_body_bytes
        self._most_held = max(held_bytes, max_body_bytes)
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one connection event."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        request_id = new_request_id(headers.get(HEADER))
        scope.setdefault("state", {})["request_id"] = request_id

        carrier = None if scope["path"].startswith(_UNTRACED) else headers

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[HEADER] = request_id
            await send(message)

        with (
            use_request_id(request_id),
            timed_request("rest", lambda: described_path(scope), carrier, request_id),
        ):
            if _declared(headers) > self._max:
                response = problem_response(self._too_large(), scope["path"], request_id)
                await response(scope, receive, send_with_headers)
                return
            body = _Body()
            try:
                await self._app(scope, self._limited(receive, body), send_with_headers)
            finally:
                self._held -= body.arrived

    def _limited(self, receive: Receive, body: _Body) -> Receive:
        async def limited() -> Message:
            message = await receive()
            more = len(message.get("body", b""))
            body.arrived += more
            self._held += more
            if body.arrived > self._max:
                raise self._too_large()
            if self._held > self._most_held:
                raise MienError(
                    Errors.OVERLOADED,
                    "Other requests are being received; there is no room for this one.",
                    retry_after=1.0,
                )
            return message

        return limited

    def _too_large(self) -> MienError:
        return MienError(
            Errors.REQUEST_TOO_LARGE, f"At most {self._max} bytes are accepted in one request."
        )


@dataclass
class _Body:
    """How much of one request's body has come."""

    arrived: int = 0


def _declared(headers: Headers) -> int:
    length = headers.get("content-length", "0")
    return int(length) if length.isascii() and length.isdigit() else 0
