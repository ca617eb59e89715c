"""The mapping service when more is asked than it can do at once."""

import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray

from services.mapping import Mapper
from services.rpc.mien.v1 import mapping_pb2
from services.runtime import EngineError
from services.runtime.engine import Arrays
from tests.integration.harness import START_SECONDS, code_of, rich_error
from tests.integration.mapping.asking import BULK, batches, sent
from tests.integration.mapping.tiny_mapping import (
    TARGET,
    loaded,
    request,
    serving,
    stub_of,
    units,
    vectors_of,
)
from tests.tiny_networks import expected_mapped


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
