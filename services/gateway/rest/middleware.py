"""What happens to every REST request: id, size limit, and the answer's headers."""

from __future__ import annotations

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.errors import Errors, MienError
from services.gateway.rest.problems import problem_response
from services.telemetry import new_request_id, use_request_id
from services.telemetry.request_id import HEADER


class RequestScope:
    """Gives each request its id, and refuses bodies over the limit before they are kept.

    Args:
        app: the application inside.
        max_body_bytes: largest body.
    """

    def __init__(self, app: ASGIApp, max_body_bytes: int) -> None:
        self._app = app
        self._max = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one connection event."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        request_id = new_request_id(headers.get(HEADER))
        scope.setdefault("state", {})["request_id"] = request_id

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                outgoing = MutableHeaders(scope=message)
                outgoing[HEADER] = request_id
                outgoing.setdefault("cache-control", "no-store")
                outgoing.setdefault("x-content-type-options", "nosniff")
            await send(message)

        with use_request_id(request_id):
            if _declared(headers) > self._max:
                response = problem_response(self._too_large(), scope["path"], request_id)
                await response(scope, receive, send_with_headers)
                return
            await self._app(scope, self._limited(receive), send_with_headers)

    def _limited(self, receive: Receive) -> Receive:
        arrived = 0

        async def limited() -> Message:
            nonlocal arrived
            message = await receive()
            arrived += len(message.get("body", b""))
            if arrived > self._max:
                raise self._too_large()
            return message

        return limited

    def _too_large(self) -> MienError:
        return MienError(
            Errors.REQUEST_TOO_LARGE, f"At most {self._max} bytes are accepted in one request."
        )


def _declared(headers: Headers) -> int:
    length = headers.get("content-length", "0")
    return int(length) if length.isascii() and length.isdigit() else 0
