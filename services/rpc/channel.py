"""The caller's side of gRPC between Mien's own services.

gRPC itself retries, with jitter, and is the circuit breaker: while a service cannot be reached, its
calls fail at once.
"""

from __future__ import annotations

import json

import grpc

from services.errors import Errors, MienError
from services.rpc.keepalive import PING_EVERY_MS
from services.rpc.status import from_rpc_error
from services.rpc.tls import ClientCredentials, secured_channel
from services.telemetry import current_request_id
from services.telemetry.request_id import HEADER
from services.telemetry.tracing import propagated

MAX_MESSAGE = 64 * 1024 * 1024
"""Largest message between services, bytes."""

_PING_ANSWER_MS = 3000  # gRPC answers pings by itself, however busy the service is
_CONNECT_MS = 3000  # to be connected in; the next attempt follows


def connect(
    address: str, service: str, credentials: ClientCredentials | None = None
) -> grpc.aio.Channel:
    """A channel to a service; nothing is sent yet.

    Args:
        address: "host:port" or "unix:PATH".
        service: its full name. A call of it that never reached a server is tried again, with
            jitter.
        credentials: what this side proves itself with, and whom it trusts; None for no TLS.
    """
    policy = {
        # A headless service of an orchestrator resolves to every replica.
        "loadBalancingConfig": [{"round_robin": {}}],
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
        ],
    }
    options: list[tuple[str, str | int]] = [
        ("grpc.max_receive_message_length", MAX_MESSAGE),
        ("grpc.max_send_message_length", MAX_MESSAGE),
        ("grpc.service_config", json.dumps(policy)),
        # Without these, a service that was gone for long is missed for two minutes more.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 1000),
        ("grpc.min_reconnect_backoff_ms", _CONNECT_MS),
        # A service that hangs, or whose packets are lost, says nothing: only a ping tells. What
        # does not answer it counts as gone, and calls fail at once until it is back.
        ("grpc.keepalive_time_ms", PING_EVERY_MS),
        ("grpc.keepalive_timeout_ms", _PING_ANSWER_MS),
        ("grpc.http2.ping_timeout_ms", _PING_ANSWER_MS),  # a minute by itself, whatever the other
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.enable_http_proxy", 0),
    ]
    return secured_channel(address, credentials, options)


def call_metadata() -> tuple[tuple[str, str], ...]:
    """What goes with every call: the id of the request that it serves, and its span if traced."""
    return ((HEADER, current_request_id()), *propagated())


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
