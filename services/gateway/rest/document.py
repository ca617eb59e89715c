"""The OpenAPI description as a file, so that a change of the interface shows in review."""

from __future__ import annotations

import json
from typing import cast

from services.gateway.core import Gateway
from services.gateway.gallery_core import GalleryGateway
from services.gateway.migration_access import MigrationAccess
from services.gateway.rest.app import create_app
from services.gateway.retention_loop import RetentionLoop
from services.settings import ImageSettings


def openapi_text() -> str:
    """The OpenAPI 3.1 description as JSON text, the same on every machine."""
    # Describing an application calls none of its routes.
    gateway, gallery = cast("Gateway", None), cast("GalleryGateway", None)
    migrations = cast("MigrationAccess", None)
    retention = cast("RetentionLoop", None)
    document = create_app(gateway, gallery, migrations, retention, ImageSettings()).openapi()
    return json.dumps(document, indent=2, sort_keys=True) + "\n"
