"""What connections may cost, whoever opens them."""

from __future__ import annotations

from pydantic import Field

from services.settings.base import Group


class ConnectionSettings(Group):
    """Limits of connections, on REST and gRPC; see docs/security.md."""

    most: int = Field(
        4096,
        ge=16,
        description="connections to one port, and no more than half the files that the process "
        "may open; beyond, the one that has waited longest for a request makes way",
    )
    header_seconds: float = Field(
        10.0, gt=0, description="longest time for the head of a request, and for a handshake"
    )
    header_bytes: int = Field(32_768, ge=1024, description="largest head of a request")
    stalled_seconds: float = Field(
        30.0, gt=0, description="time in which a sent or read body must get on by `least_rate`"
    )
    least_rate: int = Field(
        1024, ge=1, description="bytes per second that callers must send and read at least"
    )
    idle_seconds: float = Field(75.0, gt=0, description="how long a connection may wait for work")
    ping_seconds: float = Field(
        60.0, ge=1, description="between two pings that find callers who are gone (gRPC)"
    )
    streams: int = Field(512, ge=1, description="calls at once on one connection (gRPC)")
    body_bytes: int = Field(
        1 << 30, ge=1, description="bodies of all requests together that are held at once (REST)"
    )
