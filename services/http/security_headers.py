"""Headers that tell browsers and proxies what not to do with an answer."""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

ALWAYS = {
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
}
# A page says itself where its scripts come from; nothing else has any reason to run one.
_OF_DATA = {"content-security-policy": "default-src 'none'; frame-ancestors 'none'"}
_OVER_TLS = {"strict-transport-security": "max-age=31536000"}


class SecurityHeaders:
    """Gives each answer these headers, unless the application has set them itself.

    Args:
        app: the application inside.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one connection event."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                outgoing = MutableHeaders(scope=message)
                is_page = outgoing.get("content-type", "").startswith("text/html")
                wanted = ALWAYS | ({} if is_page else _OF_DATA)
                if scope.get("scheme") == "https":
                    wanted |= _OVER_TLS
                for name, value in wanted.items():
                    outgoing.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_with_headers)
