"""Prometheus metrics, and the one way to measure time."""

from __future__ import annotations

import importlib.metadata
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from prometheus_client import Counter, Gauge, Histogram, Info

from services.telemetry.tracing import mark_outcome, request_span, spanned

_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)

STAGES = Histogram(
    "mien_stage_seconds", "Time that one stage of a request took.", ["stage"], buckets=_BUCKETS
)
REQUESTS = Counter(
    "mien_requests_total",
    "Requests by interface, method and outcome.",
    ["interface", "method", "outcome"],
)
REQUEST_SECONDS = Histogram(
    "mien_request_seconds",
    "Time from a request's arrival to the end of its work.",
    ["interface", "method"],
    buckets=_BUCKETS,
)
DECISIONS = Counter(
    "mien_decisions_total", "Decisions by model and outcome.", ["model", "decision"]
)
QUALITY = Histogram(
    "mien_face_quality",
    "Unified quality of the faces that were compared.",
    buckets=tuple(range(10, 101, 10)),
)
ENHANCEMENTS = Counter(
    "mien_enhancements_total", "Compared faces by enhancer and outcome.", ["enhancer", "status"]
)
ENROLMENTS = Counter("mien_enrolments_total", "Enrolments by outcome.", ["outcome"])
IDENTIFICATIONS = Counter(
    "mien_identifications_total",
    "Identified faces and vectors by model and decision.",
    ["model", "decision"],
)
SEARCH = Histogram(
    "mien_gallery_search_seconds", "Time of one search in the gallery.", buckets=_BUCKETS
)
GALLERY_TEMPLATES = Gauge(
    "mien_gallery_templates", "Templates of the live model version, of all tenants."
)
AUDIT_FAILURES = Counter("mien_audit_failures_total", "Records that the audit log could not take.")
SIMILARITY = Histogram(
    "mien_similarity",
    "Similarity of the pairs that were compared.",
    ["model"],
    buckets=tuple(round(-0.2 + 0.1 * step, 1) for step in range(13)),
)
BATCH_SIZE = Histogram(
    "mien_batch_size", "Rows in one inference.", ["model"], buckets=(1, 2, 4, 8, 16, 32, 64, 128)
)
INFERENCE = Histogram(
    "mien_inference_seconds",
    "Time of one batch, preparation included.",
    ["model"],
    buckets=_BUCKETS,
)
QUEUE_WAIT = Histogram(
    "mien_queue_wait_seconds",
    "Time that a request waited for the engine.",
    ["model"],
    buckets=_BUCKETS,
)
QUEUE_DEPTH = Gauge("mien_queue_depth", "Rows that wait for the engine.", ["model"])
DROPPED = Counter(
    "mien_dropped_rows_total", "Rows given up before they were started.", ["model", "reason"]
)
REDIS_UP = Gauge("mien_redis_up", "1 while Redis answers, 0 while Mien does without it.")
REDIS_MISSED = Counter(
    "mien_redis_missed_total", "What was done without Redis because it was away.", ["use"]
)
CACHE_LOOKUPS = Counter(
    "mien_cache_lookups_total", "Pictures that were looked for in the cache.", ["result"]
)
ENGINE_LOADS = Counter(
    "mien_engine_loads_total",
    "Networks loaded, by what runs them. Fallen back: a better engine that is here could not.",
    ["engine", "precision", "fell_back"],
)
CAMERAS = Gauge("mien_cameras", "Cameras whose frames are being sent.")
CAMERA_FRAMES = Counter("mien_camera_frames_total", "Frames of cameras by outcome.", ["outcome"])
CAMERA_TRACKS = Gauge("mien_camera_tracks", "Faces that are followed.")
CAMERA_EVENTS = Counter("mien_camera_events_total", "Events of tracks by kind.", ["kind"])
CAMERA_LATENCY = Histogram(
    "mien_camera_event_seconds",
    "Time from the arrival of a frame to an event that it brought about.",
    buckets=_BUCKETS,
)
_BUILD = Info("mien_build", "The version that runs.")


def mark_build() -> None:
    """Says in the metrics which version runs."""
    _BUILD.info({"version": version(), "python": platform.python_version()})


def version() -> str:
    """Mien's own version."""
    return importlib.metadata.version("mien")


def count_request(interface: str, method: str, outcome: str) -> None:
    """Counts a finished request; ``outcome`` is "ok" or an error code."""
    REQUESTS.labels(interface, method, outcome).inc()
    mark_outcome(outcome)


@contextmanager
def timed_request(
    interface: str, method: Callable[[], str], carrier: Mapping[str, Any] | None, request_id: str
) -> Iterator[None]:
    """Times and traces a request.

    Args:
        interface: "rest" or "grpc".
        method: asked at the end, when a route is known.
        carrier: headers or metadata, which may name the caller's span; None not to trace.
        request_id: of the request.
    """
    start = time.perf_counter()
    with request_span(interface, carrier, request_id) as span:
        try:
            yield
        finally:
            name = method()
            REQUEST_SECONDS.labels(interface, name).observe(time.perf_counter() - start)
            if span is not None:
                span.update_name(f"{interface} {name}")


class Stopwatch:
    """Times the stages of one request, in the answer and in the metrics.

    A stage that is timed several times, on several threads even, adds up.
    """

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Times a block."""
        start = time.perf_counter()
        try:
            with spanned(name):
                yield
        finally:
            self.add(name, time.perf_counter() - start)

    def add(self, name: str, seconds: float) -> None:
        """Adds time that was measured elsewhere."""
        self._seconds[name] = self._seconds.get(name, 0.0) + seconds
        STAGES.labels(name).observe(seconds)

    def merge(self, other: Stopwatch) -> None:
        """Takes over another stopwatch's stages; they are in the metrics already."""
        for name, seconds in other._seconds.items():
            self._seconds[name] = self._seconds.get(name, 0.0) + seconds

    def milliseconds(self) -> dict[str, float]:
        """Milliseconds by stage, and the total since the start."""
        rounded = {name: round(value * 1e3, 3) for name, value in self._seconds.items()}
        rounded["total"] = round((time.perf_counter() - self._start) * 1e3, 3)
        return rounded
