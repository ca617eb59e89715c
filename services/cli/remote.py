"""Commands that ask a running gateway, because it holds the gallery open."""

from __future__ import annotations

from typing import Annotated, Any

import httpx
import typer

from services.errors import Errors, MienError

_SECONDS = 60.0

UrlOption = Annotated[
    str,
    typer.Option("--url", help="Of a running gateway that does it, e.g. http://127.0.0.1:8080."),
]
HeaderOption = Annotated[
    list[str] | None,
    typer.Option("--header", help="To send along, NAME: VALUE, such as a key; repeat it."),
]


def asked(
    url: str,
    headers: list[str] | None,
    method: str,
    path: str,
    body: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """What a gateway answers over REST.

    Raises:
        MienError: it refuses, with its own sentence, or cannot be reached.
    """
    pairs = [text.partition(":") for text in headers or []]
    given = {name.strip(): value.strip() for name, _, value in pairs}
    try:
        answer = httpx.request(
            method, url.rstrip("/") + path, json=body, headers=given, timeout=_SECONDS
        )
        told: dict[str, Any] = answer.json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise MienError(Errors.NOT_READY, f"No gateway answers at {url}.") from error
    if not answer.is_success:
        raise MienError(Errors.INVALID_REQUEST, str(told.get("detail", "The gateway refused.")))
    return told
