"""OpenTelemetry traces: off, and next to free, until `start` is told where they go.

Spans hold names of methods and stages, outcomes, models, counts and times. Nothing else may be
added: what a caller sends, ids of people included, stays out.
"""

from __future__ import annotations

import importlib.metadata
import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

_NANOSECONDS = 1e9
_FLUSH_SECONDS = 5  # a collector that is gone must not hold up the end of the process
_NOTHING = nullcontext(None)
_w3c = TraceContextTextMapPropagator()
_batches = itertools.count(1)
_provider: TracerProvider | None = None
_tracer: trace.Tracer | None = None


class TracingError(Exception):
    """Traces are wanted, and what sends them is not installed."""


def start(endpoint: str, ratio: float, service: str) -> None:
    """Sends traces from here on.

    Args:
        endpoint: OTLP over gRPC, "http://host:port", with TLS if "https://".
        ratio: share of requests that are traced, where the caller has not decided.
        service: name of what runs here.

    Raises:
        TracingError: the packages for it are missing.
    """
    try:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import (  # noqa: PLC0415 - an extra
            OTLPSpanExporter,
        )
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider as Provider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
        from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio  # noqa: PLC0415
    except ImportError as error:
        raise TracingError(
            f"MIEN_TRACING__ENDPOINT: {error.name} is not installed; pip install 'mien[tracing]'"
        ) from error
    about = {
        "service.name": f"mien-{service}",
        "service.version": importlib.metadata.version("mien"),
    }
    provider = Provider(
        sampler=ParentBasedTraceIdRatio(ratio),
        resource=Resource.create(about),
        shutdown_on_exit=False,
    )
    exporter = OTLPSpanExporter(endpoint=endpoint, insecure=not endpoint.startswith("https:"))
    provider.add_span_processor(BatchSpanProcessor(exporter))
    use(provider)


def use(provider: TracerProvider | None) -> None:
    """Sends traces through a provider; None stops them."""
    global _provider, _tracer  # noqa: PLW0603 - one for the process, as the metrics are
    _provider = provider
    _tracer = None if provider is None else provider.get_tracer("mien")


def stop() -> None:
    """Sends what is left, for a few seconds at most, and stops."""
    provider = _provider
    use(None)
    if provider is not None:
        provider.force_flush(_FLUSH_SECONDS * 1000)
        provider.shutdown()


def request_span(
    name: str, carrier: Mapping[str, Any] | None, request_id: str
) -> AbstractContextManager[Span | None]:
    """A request that this process serves, below its caller's span; None where nothing is traced.

    Args:
        name: of the method.
        carrier: headers or metadata, with small letters; None for what is never traced.
        request_id: of the request.
    """
    if _tracer is None or carrier is None:
        return _NOTHING
    parent = _w3c.extract({name: carrier[name] for name in _w3c.fields if name in carrier})
    attributes = {"mien.request_id": request_id}
    return _current(_tracer, name, SpanKind.SERVER, attributes, parent)


def spanned(name: str, kind: SpanKind = SpanKind.INTERNAL) -> AbstractContextManager[Span | None]:
    """A part of a request. Outside of requests nothing is traced."""
    if _tracer is None or not trace.get_current_span().is_recording():
        return _NOTHING
    return _current(_tracer, name, kind)


def mark_outcome(outcome: str) -> None:
    """Says how the current request ended: "ok" or an error code."""
    if _tracer is None:
        return
    span = trace.get_current_span()
    span.set_attribute("mien.outcome", outcome)
    if outcome != "ok":
        span.set_status(Status(StatusCode.ERROR, outcome))


def propagated() -> tuple[tuple[str, str], ...]:
    """The current span as metadata of a call."""
    if _tracer is None:
        return ()
    carrier: dict[str, str] = {}
    _w3c.inject(carrier)
    return tuple(carrier.items())


def caller() -> SpanContext | None:
    """Who asks for work that a queue will do later; None where that is not traced."""
    if _tracer is None:
        return None
    context = trace.get_current_span().get_span_context()
    return context if context.trace_flags.sampled else None


def record_batch(
    model: str, rows: int, seconds: float, callers: Sequence[tuple[SpanContext, int, float]]
) -> None:
    """Adds a finished batch to the trace of each caller that had rows in it.

    Args:
        model: what ran.
        rows: in the batch.
        seconds: that it took.
        callers: span, rows in the batch, and seconds of waiting of each.
    """
    if _tracer is None:
        return
    end = time.time_ns()
    begin = end - int(seconds * _NANOSECONDS)
    number = next(_batches)
    for one, own, waited in callers:
        span = _tracer.start_span(
            "inference",
            trace.set_span_in_context(trace.NonRecordingSpan(one)),
            attributes={
                "mien.model": model,
                "mien.batch": number,
                "mien.batch.rows": rows,
                "mien.batch.own_rows": own,
                "mien.queue.wait_ms": waited * 1e3,
            },
            links=[Link(other) for other, _, _ in callers if other is not one],
            start_time=begin,
        )
        span.end(end)


@contextmanager
def _current(
    tracer: trace.Tracer,
    name: str,
    kind: SpanKind,
    attributes: Mapping[str, str] | None = None,
    parent: Context | None = None,
) -> Iterator[Span]:
    """A span that notes no exception: the text of one may quote what a caller sent."""
    with tracer.start_as_current_span(
        name,
        parent,
        kind,
        attributes,
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        try:
            yield span
        except BaseException as error:
            span.set_status(Status(StatusCode.ERROR, type(error).__name__))
            raise
