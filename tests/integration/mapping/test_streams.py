"""Batch after batch in one call, and what the metrics tell of it."""

import threading
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest
from prometheus_client import REGISTRY

from services.mapping import MappingServer
from services.rpc.mien.v1 import mapping_pb2
from tests.integration.harness import NO_PROXY, START_SECONDS, rich_error
from tests.integration.mapping.asking import BULK, WRONG, Stub, bad, batches, sent
from tests.integration.mapping.tiny_mapping import (
    TARGET,
    request,
    source,
    units,
    vectors_of,
)
from tests.tiny_networks import expected_mapped


def test_a_stream_answers_each_batch_in_its_order(stub: Stub) -> None:
    given = batches(*([1, 6, 3, 2, 5] * 8))
    answers = list(stub.MapStream(sent(*given, priority=BULK), timeout=START_SECONDS))
    assert [one.index for one in answers] == list(range(len(given)))
    for one, vectors in zip(answers, given, strict=True):
        made, trust = expected_mapped(vectors, TARGET)
        np.testing.assert_allclose(vectors_of(one.batch), made, atol=1e-5)
        np.testing.assert_allclose(one.batch.confidences, trust, atol=1e-5)
        assert one.batch.identity.map == "tiny-map@1"


def test_a_stream_answers_before_the_next_batch_is_sent(stub: Stub) -> None:
    answered = threading.Event()

    def turns() -> Iterator[mapping_pb2.MapStreamRequest]:
        for one in batches(2, 2, 2):
            yield mapping_pb2.MapStreamRequest(batch=request(one))
            assert answered.wait(START_SECONDS)
            answered.clear()

    count = 0
    for _ in stub.MapStream(turns(), timeout=START_SECONDS):
        count += 1
        answered.set()
    assert count == 3


def test_an_empty_stream_ends_well(stub: Stub) -> None:
    assert list(stub.MapStream(iter(()), timeout=START_SECONDS)) == []


def test_a_bad_batch_ends_the_stream_is_named_and_leaves_what_was_answered(stub: Stub) -> None:
    good = batches(2, 3)
    answered = threading.Semaphore(0)

    def turns() -> Iterator[mapping_pb2.MapStreamRequest]:
        yield from sent(*good)
        for _ in good:
            assert answered.acquire(timeout=START_SECONDS)
        broken = mapping_pb2.MapStreamRequest(batch=request(bad(1, lambda row: row * 2)))
        yield broken
        yield from sent(*good)

    got: list[int] = []

    def read() -> None:
        for one in stub.MapStream(turns(), timeout=START_SECONDS):
            got.append(one.index)
            answered.release()

    with pytest.raises(grpc.RpcError) as failed:
        read()
    assert got == [0, 1]
    told = rich_error(failed.value)
    assert told.code is grpc.StatusCode.INVALID_ARGUMENT
    assert told.fields == ["batches[2].vectors[1]"]
    assert "Batch 2 of the stream" in told.message


def test_the_wrong_source_in_the_middle_of_a_stream_is_refused(stub: Stub) -> None:
    def turns() -> Iterator[mapping_pb2.MapStreamRequest]:
        yield from sent(units(1))
        yield from sent(units(1), source=source(weights_sha256="c" * 64))

    with pytest.raises(grpc.RpcError) as failed:
        list(stub.MapStream(turns(), timeout=START_SECONDS))
    told = rich_error(failed.value)
    assert (told.reason, told.fields) == (WRONG, ["batches[1].source.weights_sha256"])


def test_bytes_that_are_no_message_end_a_stream_as_the_callers_error(server: MappingServer) -> None:
    with grpc.insecure_channel(server.address, options=NO_PROXY) as channel:
        raw: Any = channel.stream_stream("/mien.v1.MappingService/MapStream")
        with pytest.raises(grpc.RpcError) as failed:
            list(raw(iter([b"\xff\xff\xff"]), timeout=START_SECONDS))
    told = rich_error(failed.value)
    assert (told.code, told.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "MALFORMED_BODY")
    assert "Batch 0" in told.message


def test_the_metrics_tell_of_batches_and_of_streams_by_outcome(stub: Stub) -> None:
    def count(method: str, outcome: str) -> float:
        labels = {"interface": "grpc", "method": method, "outcome": outcome}
        return REGISTRY.get_sample_value("mien_requests_total", labels) or 0.0

    before = count("MapStream", "ok"), count("Map", "identity_mismatch")
    list(stub.MapStream(sent(units(1)), timeout=START_SECONDS))
    with pytest.raises(grpc.RpcError):
        stub.Map(request(units(1), source=source(version="2")))
    assert count("MapStream", "ok") == before[0] + 1
    assert count("Map", "identity_mismatch") == before[1] + 1
    assert REGISTRY.get_sample_value("mien_batch_size_count", {"model": "tiny-map@1"})
