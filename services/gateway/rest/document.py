"""The OpenAPI description as a file, so that a change of the interface shows in review."""

from __future__ import annotations

import json
from typing import cast

from services.gateway.core import Gateway
from services.gateway.rest.app import create_app
from services.settings import ImageSettings


def openapi_text() -> str:
    """The OpenAPI 3.1 description as JSON text, the same on every machine."""
    never_called = cast("Gateway", None)  # describing an application calls none of its routes
    document = create_app(never_called, ImageSettings()).openapi()
    return json.dumps(document, indent=2, sort_keys=True) + "\n"
