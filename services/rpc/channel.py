"""The caller's side of gRPC between Mien's own services."""

from __future__ import annotations

import json

import grpc

from services.errors import Errors, MienError
from services.rpc.status import from_rpc_error
from services.telemetry import current_request_id
from services.telemetry.request_id import HEADER

MAX_MESSAGE = 64 * 1024 * 1024
"""Largest message between services, bytes."""


def connect(address: str, service: str) -> grpc.aio.Channel:
    """A channel to a service; nothing is sent yet.

    Args:
        address: "host:port" or "unix:PATH".
        service: its full name. A call of it that never reached a server is tried again, with
            jitter.
    """
    retries = {
        "methodConfig": [
            {
                "name": [{"service": service}],
                "retryPolicy": {
                    "maxAttempts": 4,
                    "initialBackoff": "0.05s",
                    "maxBackoff": "1s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ]
    }
    return grpc.aio.insecure_channel(
        address,
        options=[
            ("grpc.max_receive_message_length", MAX_MESSAGE),
            ("grpc.max_send_message_length", MAX_MESSAGE),
            ("grpc.service_config", json.dumps(retries)),
            # Without these, a service that was gone for long is missed for two minutes more.
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 1000),
            ("grpc.enable_http_proxy", 0),
        ],
    )


def call_metadata() -> tuple[tuple[str, str], ...]:
    """What goes with every call: the id of the request that it serves."""
    return ((HEADER, current_request_id()),)


def told(error: grpc.aio.AioRpcError, service: str, unavailable: Errors) -> MienError:
    """A failed call as Mien's own error.

    Args:
        error: the failure.
        service: what the service is called, for people.
        unavailable: what it is when the service said nothing.
    """
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return MienError(Errors.DEADLINE_EXCEEDED, f"The {service} service took too long.")
    said = from_rpc_error(error)
    if said is not None:
        return said
    return MienError(unavailable, f"The {service} service does not answer.", retry_after=1.0)
