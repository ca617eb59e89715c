"""REST: a thin skin over the gateway's core."""

from services.gateway.rest.app import create_app

__all__ = ["create_app"]
