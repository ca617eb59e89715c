"""Logs, metrics and request ids, alike in every service."""

from services.telemetry.logs import configure_logging, get_logger
from services.telemetry.metrics import Stopwatch, count_request, mark_build, timed_request
from services.telemetry.request_id import current_request_id, new_request_id, use_request_id

__all__ = [
    "Stopwatch",
    "configure_logging",
    "count_request",
    "current_request_id",
    "get_logger",
    "mark_build",
    "new_request_id",
    "timed_request",
    "use_request_id",
]
