"""The mapping service with a tiny map: real engine, real gRPC."""

import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from prometheus_client import REGISTRY

from services.http import HttpServer
from services.mapping import Mapper, MappingServer
from services.rpc.inference import grpc_inference_pb2 as pb
from services.rpc.inference.grpc_inference_pb2_grpc import GRPCInferenceServiceStub
from services.rpc.mien.v1 import mapping_pb2, mapping_pb2_grpc, model_pb2
from services.runtime import EngineError
from services.runtime.engine import Arrays
from tests.integration.harness import NO_PROXY, START_SECONDS, call, code_of, rich_error
from tests.integration.tiny_mapping import (
    SOURCE,
    TARGET,
    add_map,
    end,
    loaded,
    request,
    serving,
    source,
    stub_of,
    threshold,
    units,
    vectors_of,
)
from tests.tiny_networks import expected_mapped

Stub = mapping_pb2_grpc.MappingServiceStub
MAPPED = model_pb2.VECTOR_ORIGIN_MAPPED
BULK = model_pb2.PRIORITY_BULK
MAX_BATCH = 6


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("maps")
    add_map(
        folder,
        thresholds=[
            threshold("map|T", 1e-3, 0.5), threshold("T|map", 1e-3, 0.4),
            threshold("map|T", 1e-2, 0.3),
        ],
        confidence={"bins": [], "gap": 0.02, "rank_correlation": None, "data": "made up"},
    )  # fmt: skip
    add_map(folder, "other-map", source=end("older", SOURCE, "c"))
    add_map(folder, "far-map", target=end("newest", TARGET, "d"))
    return folder


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[MappingServer]:
    maps = loaded(home, "tiny-map", "other-map", "far-map")
    with serving(maps, max_batch=MAX_BATCH) as running:
        yield running


@pytest.fixture(scope="module")
def stub(server: MappingServer) -> Iterator[Stub]:
    with stub_of(server) as made:
        yield made


def test_vectors_come_back_in_the_other_models_space_with_their_identity(stub: Stub) -> None:
    given = units(5)
    answer = stub.Map(request(given))
    made, trust = expected_mapped(given, TARGET)
    np.testing.assert_allclose(vectors_of(answer), made, atol=1e-5)
    np.testing.assert_allclose(answer.confidences, trust, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(vectors_of(answer), axis=1), 1, atol=1e-5)
    told = answer.identity
    assert (told.name, told.version, told.weights_sha256) == ("new", "1", "b" * 64)
    assert told.preprocessing_sha256 == "b" * 64
    assert (told.origin, told.map) == (MAPPED, "tiny-map@1")
    assert len(answer.map_sha256) == 64
    assert answer.inference_ms > 0


def test_the_list_says_from_where_to_where_and_when_two_vectors_match(stub: Stub) -> None:
    answer = stub.ListMaps(mapping_pb2.ListMapsRequest())
    assert [one.name for one in answer.maps] == ["far-map", "other-map", "tiny-map"]
    assert answer.max_batch == MAX_BATCH
    tiny = answer.maps[2]
    assert tiny.source == source()
    assert (tiny.target.name, tiny.target.origin, tiny.target.map) == ("new", MAPPED, "tiny-map@1")
    assert (tiny.source_dimension, tiny.target_dimension) == (SOURCE, TARGET)
    found = [
        (one.comparison, one.threshold.fmr, one.threshold.similarity) for one in tiny.thresholds
    ]
    assert found == [
        (mapping_pb2.COMPARISON_MAPPED_TO_NATIVE, 1e-2, 0.3),
        (mapping_pb2.COMPARISON_MAPPED_TO_NATIVE, 1e-3, 0.5),
        (mapping_pb2.COMPARISON_NATIVE_TO_MAPPED, 1e-3, 0.4),
    ]
    assert tiny.confidence_gap == pytest.approx(0.02)
    assert not answer.maps[0].HasField("confidence_gap")
    assert (tiny.precision, tiny.licence) == ("fp32", "CC0-1.0")


@pytest.mark.parametrize(
    ("asked", "used"),
    [
        ({"map": "tiny-map@1"}, "tiny-map@1"),
        ({"map": "", "target": "newest"}, "far-map@1"),
        ({"map": "", "target": "newest@1"}, "far-map@1"),
        ({"map": "", "target": "new"}, "tiny-map@1"),
        ({"map": "tiny-map", "target": "new"}, "tiny-map@1"),
    ],
)
def test_a_map_is_found_by_its_name_or_by_where_it_leads(
    stub: Stub, asked: dict[str, Any], used: str
) -> None:
    assert stub.Map(request(units(1), **asked)).identity.map == used


def test_of_several_versions_the_newest_is_meant_and_others_are_named(tmp_path: Path) -> None:
    for version in ("9", "10"):
        add_map(tmp_path, version=version)
    with serving(loaded(tmp_path, "tiny-map@9", "tiny-map@10")) as server, stub_of(server) as stub:
        assert stub.Map(request(units(1))).identity.map == "tiny-map@10"
        assert stub.Map(request(units(1), map="tiny-map@9")).identity.map == "tiny-map@9"
        with pytest.raises(grpc.RpcError) as failed:
            stub.Map(request(units(1), map="", target="new"))
        told = rich_error(failed.value)
        assert (told.reason, told.fields) == ("INVALID_REQUEST", ["map"])


def bad(row: int, change: Any) -> list[bytes]:
    given = units(3)
    given[row] = change(given[row])
    return [one.tobytes() for one in given]


def set_to(value: float) -> Any:
    def change(row: NDArray[np.float32]) -> NDArray[np.float32]:
        made = row.copy()
        made[2] = value
        return made

    return change


WRONG = "IDENTITY_MISMATCH"
STATUSES = {
    WRONG: grpc.StatusCode.FAILED_PRECONDITION,
    "INVALID_REQUEST": grpc.StatusCode.INVALID_ARGUMENT,
}
REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "another model": ({"source": source(name="older")}, WRONG, "source.name"),
    "another version": ({"source": source(version="2")}, WRONG, "source.version"),
    "other weights": ({"source": source(weights_sha256="c" * 64)}, WRONG, "source.weights_sha256"),
    "other preprocessing": (
        {"source": source(preprocessing_sha256="c" * 64)}, WRONG, "source.preprocessing_sha256"
    ),
    "mapped already": ({"source": source(origin=MAPPED, map="x@1")}, WRONG, "source.origin"),
    "mapped, it says not how": ({"source": source(origin=MAPPED)}, WRONG, "source.origin"),
    "mapped, though called native": ({"source": source(map="x@1")}, WRONG, "source.origin"),
    "origin not said": ({"source": source(origin=0)}, WRONG, "source.origin"),
    "no identity": ({"source": None}, WRONG, "source.origin"),
    "the target's own vectors": (
        {"source": source(name="new", weights_sha256="b" * 64)}, WRONG, "source.name"
    ),
    "a byte short": ({"vectors": [units(1)[0].tobytes()[:-1]]}, "INVALID_REQUEST", "vectors[0]"),
    "another dimension": (
        {"vectors": [units(1)[0].tobytes(), units(1, 9)[0].tobytes()]},
        "INVALID_REQUEST",
        "vectors[1]",
    ),
    "too long": ({"vectors": bad(1, lambda row: row * 1.002)}, "INVALID_REQUEST", "vectors[1]"),
    "too short": ({"vectors": bad(2, lambda row: row * 0.998)}, "INVALID_REQUEST", "vectors[2]"),
    "nothing": ({"vectors": bad(0, lambda row: row * 0)}, "INVALID_REQUEST", "vectors[0]"),
    "no number": ({"vectors": bad(1, set_to(float("nan")))}, "INVALID_REQUEST", "vectors[1]"),
    "infinite": ({"vectors": bad(2, set_to(float("-inf")))}, "INVALID_REQUEST", "vectors[2]"),
    "huge": ({"vectors": bad(0, set_to(3e38))}, "INVALID_REQUEST", "vectors[0]"),
    "no vector": ({"vectors": []}, "INVALID_REQUEST", "vectors"),
    "too many": ({"vectors": units(MAX_BATCH + 1)}, "REQUEST_TOO_LARGE", "vectors"),
    "no such map": ({"map": "unheard"}, "MODEL_UNKNOWN", "map"),
    "no such version": ({"map": "tiny-map@9"}, "MODEL_UNKNOWN", "map"),
    "nothing leads there": ({"map": "", "target": "unheard"}, "MODEL_UNKNOWN", "target"),
    "it leads elsewhere": ({"target": "newest"}, "MODEL_UNKNOWN", "target"),
    "neither map nor target": ({"map": ""}, "INVALID_REQUEST", "map"),
    "none there takes these": (
        {"map": "", "target": "new", "source": source(name="oldest")}, WRONG, "source.name"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_names_the_field_at_fault(stub: Stub, case: str) -> None:
    changes, reason, field = REFUSED[case]
    with pytest.raises(grpc.RpcError) as failed:
        stub.Map(request(**({"vectors": units(2)} | changes)))
    told = rich_error(failed.value)
    assert (told.reason, told.fields) == (reason, [field])
    if reason in STATUSES:
        assert told.code is STATUSES[reason]


def test_vectors_that_were_kept_in_half_precision_are_taken(stub: Stub) -> None:
    given = units(MAX_BATCH).astype(np.float16).astype(np.float32)
    assert np.abs(np.linalg.norm(given, axis=1) - 1).max() > 1e-5
    made, _ = expected_mapped(given, TARGET)
    np.testing.assert_allclose(vectors_of(stub.Map(request(given))), made, atol=1e-5)


# --- streams --------------------------------------------------------------------------------------


def batches(*sizes: int) -> list[NDArray[np.float32]]:
    return [units(size, seed=number) for number, size in enumerate(sizes)]


def sent(*given: NDArray[np.float32], **fields: Any) -> Iterator[mapping_pb2.MapStreamRequest]:
    for one in given:
        yield mapping_pb2.MapStreamRequest(batch=request(one, **fields))


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


# --- load -----------------------------------------------------------------------------------------


class Held:
    """An engine that answers when it is told to, and counts."""

    def __init__(self, inner: Mapper) -> None:
        self._engine = inner.engine
        self.info = inner.engine.info
        self.entered, self.released = threading.Event(), threading.Event()
        self.released.set()
        self.seen: list[int] = []

    def infer(self, inputs: Mapping[str, NDArray[np.float32]]) -> Arrays:
        self.entered.set()
        if not self.released.wait(START_SECONDS):
            raise EngineError("it was never released")
        self.seen.append(len(inputs["vector"]))
        return self._engine.infer(inputs)

    def close(self) -> None:
        self._engine.close()


@pytest.fixture
def held(home: Path) -> Iterator[tuple[Mapper, Held]]:
    inner = loaded(home, "tiny-map")[0]
    engine = Held(inner)
    mapper = Mapper(inner.card, engine)
    engine.entered.clear()
    engine.released.clear()
    engine.seen.clear()
    yield mapper, engine
    engine.released.set()


def test_a_full_queue_is_answered_at_once(held: tuple[Mapper, Held]) -> None:
    mapper, engine = held
    limits = {"max_batch": 2, "batch_rows": 1, "queue_rows": 2}
    with serving([mapper], **limits) as server, stub_of(server) as stub:
        waiting = [stub.Map.future(request(units(1))) for _ in range(engine.info.streams + 1)]
        engine.entered.wait(START_SECONDS)
        waiting += [stub.Map.future(request(units(1))) for _ in range(3)]
        with pytest.raises(grpc.RpcError) as failed:
            stub.Map(request(units(1)), timeout=5)
        told = rich_error(failed.value)
        assert told.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert told.retry_seconds is not None
        engine.released.set()
        assert waiting[0].result().vectors


def test_a_stream_waits_where_a_call_is_turned_away(held: tuple[Mapper, Held]) -> None:
    mapper, engine = held
    limits = {"max_batch": 2, "batch_rows": 1, "queue_rows": 2}
    with serving([mapper], **limits) as server, stub_of(server) as stub:
        waiting = [stub.Map.future(request(units(1))) for _ in range(engine.info.streams + 3)]
        engine.entered.wait(START_SECONDS)
        answers: list[int] = []

        def read() -> None:
            answers.extend(
                one.index for one in stub.MapStream(sent(*batches(2, 2, 2)), timeout=START_SECONDS)
            )

        reader = threading.Thread(target=read)
        reader.start()
        time.sleep(0.3)
        assert answers == []
        engine.released.set()
        reader.join(START_SECONDS)
        assert answers == [0, 1, 2]
        assert all(one.exception() is None or one.code() for one in waiting)


def test_a_stream_is_read_no_faster_than_it_is_answered(held: tuple[Mapper, Held]) -> None:
    mapper, engine = held
    taken: list[int] = []
    (large,) = sent(units(20_000))  # 0.7 MB, so that few fit into the buffers of the transport

    def turns() -> Iterator[mapping_pb2.MapStreamRequest]:
        for number in range(60):
            taken.append(number)
            yield large

    with serving([mapper], max_batch=20_000) as server, stub_of(server) as stub:
        stream = stub.MapStream(turns(), timeout=START_SECONDS)
        engine.entered.wait(START_SECONDS)
        time.sleep(1.0)
        ahead = len(taken)
        engine.released.set()
        assert next(stream).index == 0
        stream.cancel()
    assert 2 <= ahead < 30


def test_one_who_waits_in_person_overtakes_a_stream(held: tuple[Mapper, Held]) -> None:
    mapper, engine = held
    limits = {"max_batch": 256, "batch_rows": 8, "queue_rows": 1024}
    with serving([mapper], **limits) as server, stub_of(server) as stub:
        finished: list[str] = []

        def bulk() -> None:
            list(stub.MapStream(sent(units(256), priority=BULK), timeout=START_SECONDS))
            finished.append("stream")

        streaming = threading.Thread(target=bulk)
        streaming.start()
        engine.entered.wait(START_SECONDS)
        asked = stub.Map.future(request(units(4)), timeout=START_SECONDS)
        asked.add_done_callback(lambda _: finished.append("person"))
        time.sleep(0.3)
        engine.released.set()
        streaming.join(START_SECONDS)
        assert asked.result().vectors
        assert finished[0] == "person"


def test_callers_are_put_into_one_batch(held: tuple[Mapper, Held]) -> None:
    mapper, engine = held
    with serving([mapper], batch_rows=64) as server, stub_of(server) as stub:
        count = 12
        calls = [stub.Map.future(request(units(2, seed=one))) for one in range(count)]
        engine.entered.wait(START_SECONDS)
        time.sleep(0.3)
        engine.released.set()
        for seed, one in enumerate(calls):
            made, _ = expected_mapped(units(2, seed=seed), TARGET)
            np.testing.assert_allclose(vectors_of(one.result(START_SECONDS)), made, atol=1e-5)
        assert sum(engine.seen) == 2 * count
        assert max(engine.seen) > 2


def test_a_deadline_that_passes_in_the_queue_is_told(held: tuple[Mapper, Held]) -> None:
    mapper, engine = held
    with serving([mapper], batch_rows=1) as server, stub_of(server) as stub:
        waiting = [stub.Map.future(request(units(1))) for _ in range(engine.info.streams + 1)]
        engine.entered.wait(START_SECONDS)
        with pytest.raises(grpc.RpcError) as failed:
            stub.Map(request(units(1)), timeout=0.2)
        assert code_of(failed.value) is grpc.StatusCode.DEADLINE_EXCEEDED
        with pytest.raises(grpc.RpcError) as ended:
            list(stub.MapStream(sent(units(1)), timeout=0.2))
        assert code_of(ended.value) is grpc.StatusCode.DEADLINE_EXCEEDED
        engine.released.set()
        assert [one.result(START_SECONDS).identity.map for one in waiting]
        time.sleep(0.2)
        assert sum(engine.seen) == len(waiting)


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


# --- the Open Inference Protocol ------------------------------------------------------------------


def infer(stub: GRPCInferenceServiceStub, rows: NDArray[np.float32]) -> Any:
    asked = pb.ModelInferRequest(model_name="tiny-map")
    asked.inputs.add(name="vector", datatype="FP32", shape=rows.shape)
    asked.raw_input_contents.append(rows.tobytes())
    return stub.ModelInfer(asked)


def test_the_inference_protocol_gives_vectors_and_confidences_and_nothing_else(
    server: MappingServer,
) -> None:
    with grpc.insecure_channel(server.address, options=NO_PROXY) as channel:
        stub = GRPCInferenceServiceStub(channel)
        metadata = stub.ModelMetadata(pb.ModelMetadataRequest(name="tiny-map"))
        assert [(one.name, list(one.shape)) for one in metadata.inputs] == [
            ("vector", [-1, SOURCE])
        ]
        assert [(one.name, list(one.shape)) for one in metadata.outputs] == [
            ("mapped", [-1, TARGET]), ("confidence", [-1, 1]),
        ]  # fmt: skip
        given = units(3)
        answer = infer(stub, given)
        made, trust = expected_mapped(given, TARGET)
        raw = answer.raw_output_contents
        np.testing.assert_allclose(np.frombuffer(raw[0], "<f4").reshape(3, -1), made, atol=1e-5)
        np.testing.assert_allclose(np.frombuffer(raw[1], "<f4"), trust, atol=1e-5)
        given[1] *= 2
        with pytest.raises(grpc.RpcError) as failed:
            infer(stub, given)
        assert code_of(failed.value) is grpc.StatusCode.INVALID_ARGUMENT
        assert rich_error(failed.value).fields == ["inputs[0]: row 1"]


def test_metadata_metrics_and_health_are_there_over_http(server: MappingServer) -> None:
    http = HttpServer(server.http_app(), "127.0.0.1", 0, setting="none", drain_seconds=0)

    async def start() -> None:
        http.start()

    call(start())
    try:
        with httpx.Client(base_url=http.url, trust_env=False) as client:
            told = client.get("/v2/models/tiny-map").json()
            assert [one["name"] for one in told["outputs"]] == ["mapped", "confidence"]
            assert client.get("/v2/health/ready").status_code == 200
            assert 'mien_queue_depth{model="tiny-map@1"}' in client.get("/metrics").text
    finally:
        call(http.stop())
