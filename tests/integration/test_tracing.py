"""Traces: one tree from the caller's span to the engine, and nothing of a face in it."""

from __future__ import annotations

import base64
import sys
import threading
import time
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio

from services.rpc.mien.v1 import face_pb2
from services.settings import Settings
from services.telemetry import tracing
from tests.integration.harness import (
    Mien,
    embedding_in_thread,
    mien_in_thread,
    run_mien,
    settings_on_free_ports,
    weightless_embedder,
    weightless_loader,
)
from tests.integration.rest import files

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = {"traceparent": f"00-{TRACE}-{SPAN}-01"}
SECRET = "Erika-Mustermann"  # noqa: S105 - a name, which must not be traced
_WAIT = 20.0


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    """What this process traces during a test; callers that decide nothing are not traced."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(sampler=ParentBasedTraceIdRatio(0), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing.use(provider)
    yield exporter
    tracing.use(None)


@pytest.fixture(scope="module")
def apart(mien_home: Path) -> Iterator[Mien]:
    """A gateway that asks an embedding service over gRPC."""
    with embedding_in_thread(weightless_embedder(mien_home)) as address:
        settings = settings_on_free_ports(mien_home, embedding_address=address, enhance=False)
        with mien_in_thread(settings, "gateway") as running:
            yield running


def _finished(exporter: InMemorySpanExporter, name: str) -> list[ReadableSpan]:
    """All spans, once the one that ends last is there."""
    deadline = time.monotonic() + _WAIT
    while time.monotonic() < deadline:
        found = list(exporter.get_finished_spans())
        if any(span.name == name for span in found):
            return found
        time.sleep(0.02)
    raise AssertionError(f"no span {name}: {[s.name for s in exporter.get_finished_spans()]}")


def _parents(spans: list[ReadableSpan], span: ReadableSpan) -> list[str]:
    """Names of a span and what it is part of, innermost first."""
    by_id = {one.context.span_id: one for one in spans if one.context}
    names = [span.name]
    while span.parent is not None and span.parent.span_id in by_id:
        span = by_id[span.parent.span_id]
        names.append(span.name)
    return names


def _one(spans: list[ReadableSpan], name: str) -> ReadableSpan:
    (found,) = [span for span in spans if span.name == name]
    return found


def test_a_rest_request_is_one_tree_from_the_callers_span_to_the_engine_of_another_service(
    apart: Mien, obama: bytes, biden: bytes, spans: InMemorySpanExporter
) -> None:
    with apart.client() as client:
        pictures = files(probe=obama, reference=biden)
        client.post("/v1/verify", files=pictures, headers=TRACEPARENT).raise_for_status()
    found = _finished(spans, "rest /v1/verify")
    root = _one(found, "rest /v1/verify")
    assert root.parent is not None
    assert f"{root.parent.span_id:016x}" == SPAN
    assert {f"{span.context.trace_id:032x}" for span in found if span.context} == {TRACE}
    engine = next(span for span in found if span.name == "inference")
    assert _parents(found, engine) == [
        "inference", "grpc Embed", "call embedding", "embed", "rest /v1/verify"
    ]  # fmt: skip
    for stage in ("decode", "detect", "measure"):
        of_stage = [span for span in found if span.name == stage]
        assert len(of_stage) >= 2, stage
        assert all(_parents(found, one) == [stage, "rest /v1/verify"] for one in of_stage)
    assert engine.attributes is not None
    assert engine.attributes["mien.model"] == "sface@1"
    assert 1 <= int(str(engine.attributes["mien.batch.rows"])) <= 2
    assert float(str(engine.attributes["mien.queue.wait_ms"])) >= 0
    assert root.attributes is not None
    assert root.attributes["mien.outcome"] == "ok"


def test_a_grpc_request_is_traced_likewise(
    weightless_mien: Mien, obama: bytes, spans: InMemorySpanExporter
) -> None:
    with weightless_mien.faces() as faces:
        image = face_pb2.Image(content=obama)
        request = face_pb2.VerifyRequest(probe=image, references=[image])
        faces.Verify(request, metadata=tuple(TRACEPARENT.items()))
    found = _finished(spans, "grpc Verify")
    engine = next(span for span in found if span.name == "inference")
    assert _parents(found, engine) == ["inference", "embed", "grpc Verify"]


def test_a_search_is_a_stage_of_its_request(
    apart: Mien, obama: bytes, spans: InMemorySpanExporter
) -> None:
    picture = [("picture", ("1.jpg", obama))]
    with apart.client() as client:
        client.post("/v1/subjects/s/templates", files=picture).raise_for_status()
        client.post("/v1/identify", files=picture, headers=TRACEPARENT).raise_for_status()
    found = _finished(spans, "rest /v1/identify")
    assert _parents(found, _one(found, "search")) == ["search", "rest /v1/identify"]


def test_requests_that_share_a_batch_are_linked(spans: InMemorySpanExporter) -> None:
    headers = [{"traceparent": f"00-{TRACE}-{number:016x}-01"} for number in (1, 2)]
    callers = []
    for header in headers:
        with tracing.request_span("one", header, "id"):
            callers.append(tracing.caller())
    members = [(one, 2, 0.25) for one in callers if one is not None]
    tracing.record_batch("poseface@1", 5, 0.5, members)
    first, second = [span for span in spans.get_finished_spans() if span.name == "inference"]
    assert first.attributes is not None
    assert second.attributes is not None
    assert first.attributes["mien.batch"] == second.attributes["mien.batch"]
    assert first.attributes["mien.batch.own_rows"] == 2
    assert first.attributes["mien.queue.wait_ms"] == 250
    assert [link.context for link in first.links] == [callers[1]]
    assert [link.context for link in second.links] == [callers[0]]
    assert first.start_time is not None
    assert first.end_time is not None
    assert first.end_time - first.start_time == 500_000_000


def test_errors_are_told_by_their_code_and_nothing_that_was_sent_is_traced(
    weightless_mien: Mien, obama: bytes, spans: InMemorySpanExporter
) -> None:
    with weightless_mien.client() as client:
        client.post(
            "/v1/verify",
            data={"model": SECRET},
            files=[("probe", (f"{SECRET}.jpg", obama)), ("reference", (SECRET, obama))],
            headers=TRACEPARENT,
        )
        client.get(f"/v1/subjects/{SECRET}", headers=TRACEPARENT)
        client.post("/v1/identify", files={"picture": (SECRET, obama)}, headers=TRACEPARENT)
    found = _finished(spans, "rest /v1/identify")
    failed = _one(found, "rest /v1/verify")
    assert failed.attributes is not None
    assert failed.attributes["mien.outcome"] == "model_unknown"
    assert not failed.status.is_ok
    text = "".join(span.to_json() for span in found)
    assert SECRET not in text
    assert base64.b64encode(obama).decode()[:40] not in text
    allowed = {
        "mien.request_id", "mien.outcome", "mien.model",
        "mien.batch", "mien.batch.rows", "mien.batch.own_rows", "mien.queue.wait_ms",
    }  # fmt: skip
    assert {name for span in found for name in span.attributes or ()} <= allowed
    assert not any(span.events for span in found), "an exception's text may quote the caller"


def test_what_is_not_sampled_leaves_nothing(
    weightless_mien: Mien, obama: bytes, spans: InMemorySpanExporter
) -> None:
    with weightless_mien.client() as client:
        client.get("/metrics", headers=TRACEPARENT)
        client.get("/healthz/ready", headers=TRACEPARENT)
        client.post("/v1/detect", files=files(image=obama))
        client.get("/v1/models", headers=TRACEPARENT)
    found = _finished(spans, "rest /v1/models")
    assert {span.name for span in found} == {"rest /v1/models"}


class _Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """An OTLP receiver."""

    def __init__(self) -> None:
        self.arrived = threading.Event()
        self.names: set[str] = set()
        self.services: set[str] = set()

    def Export(  # noqa: N802 - gRPC's name
        self, request: trace_service_pb2.ExportTraceServiceRequest, context: grpc.ServicerContext
    ) -> trace_service_pb2.ExportTraceServiceResponse:
        del context
        for group in request.resource_spans:
            about = {one.key: one.value.string_value for one in group.resource.attributes}
            self.services.add(about["service.name"])
            self.names |= {span.name for scope in group.scope_spans for span in scope.spans}
        if "rest /v1/detect" in self.names:
            self.arrived.set()
        return trace_service_pb2.ExportTraceServiceResponse()


@pytest.fixture
def collector() -> Iterator[tuple[_Collector, str]]:
    receiver = _Collector()
    server = grpc.server(futures.ThreadPoolExecutor(2))
    add: Any = trace_service_pb2_grpc.add_TraceServiceServicer_to_server  # it has no types
    add(receiver, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield receiver, f"http://127.0.0.1:{port}"
    server.stop(0)


def _traced(settings: Settings, endpoint: str) -> Settings:
    own = settings.tracing.model_copy(update={"endpoint": endpoint})
    return settings.model_copy(update={"tracing": own})


def test_traces_arrive_at_a_collector(
    mien_home: Path,
    obama: bytes,
    collector: tuple[_Collector, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    receiver, endpoint = collector
    monkeypatch.setattr("services.serve.load_configured", weightless_loader())
    settings = _traced(settings_on_free_ports(mien_home, enhance=False), endpoint)
    with mien_in_thread(settings) as running, running.client() as client:
        client.post("/v1/detect", files=files(image=obama)).raise_for_status()
    # The end of Mien sends what is left.
    assert receiver.arrived.wait(_WAIT)
    assert {"decode", "detect", "measure"} <= receiver.names
    assert receiver.services == {"mien-all"}


def test_a_collector_that_is_not_there_changes_no_answer_and_holds_up_no_end(
    mien_home: Path, obama: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.serve.load_configured", weightless_loader())
    settings = settings_on_free_ports(mien_home, enhance=False)
    with mien_in_thread(_traced(settings, "http://127.0.0.1:9")) as running:
        with running.client() as client:
            client.post("/v1/detect", files=files(image=obama)).raise_for_status()
        began = time.monotonic()
    assert time.monotonic() - began < _WAIT


def test_a_missing_exporter_is_one_clear_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.grpc.trace_exporter", None)
    with pytest.raises(tracing.TracingError, match=r"pip install 'mien\[tracing\]'"):
        tracing.start("http://127.0.0.1:4317", 1.0, "all")


def test_a_ratio_beyond_one_is_refused(mien_home: Path) -> None:
    done: Any = run_mien(mien_home, "config", TRACING__RATIO=2)
    assert done.returncode != 0
    assert "MIEN_TRACING__RATIO" in done.stderr


def test_nothing_is_traced_unless_it_is_asked_for(light: httpx.Client, obama: bytes) -> None:
    with tracing.request_span("one", TRACEPARENT, "id") as span:
        assert span is None
        assert tracing.caller() is None
        assert tracing.propagated() == ()
    assert light.post("/v1/detect", files=files(image=obama)).status_code == 200
