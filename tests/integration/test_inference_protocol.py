"""The Open Inference Protocol over gRPC, spoken by Mien's stubs."""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray

from services.embedding import Embedder
from services.embedding.inference_models import served_models
from services.embedding.queued import QueuedEmbedder
from services.inference_protocol import SERVICE_NAME, ServedModel
from services.rpc.inference import grpc_inference_pb2 as pb
from services.rpc.inference.grpc_inference_pb2_grpc import GRPCInferenceServiceStub
from services.rpc.reflection_pool import reflection_pool
from services.runtime.batcher import BatcherOptions
from services.runtime.engine import Arrays
from services.runtime.triton_engine import EngineBusyError
from services.runtime.weightless_engine import WeightlessEngine
from tests.integration.harness import rich_error
from tests.integration.inference_server import (
    DIMENSION,
    MAX_ROWS,
    MIRRORED,
    NO_PROXY,
    Server,
    random_batch,
    serving,
    tiny_card,
    tiny_server,
)
from tests.tiny_networks import SIDE, expected


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with tiny_server(tmp_path_factory.mktemp("tiny")) as running:
        yield running


@pytest.fixture
def stub(server: Server) -> Iterator[GRPCInferenceServiceStub]:
    with grpc.insecure_channel(server.grpc, options=NO_PROXY) as channel:
        yield GRPCInferenceServiceStub(channel)


def _request(batch: NDArray[np.float32], **fields: Any) -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name="tiny", **fields)
    request.inputs.add(name="data", datatype="FP32", shape=batch.shape)
    request.raw_input_contents.append(batch.tobytes())
    return request


class TestGrpc:
    def test_health_and_metadata(self, stub: GRPCInferenceServiceStub) -> None:
        assert stub.ServerLive(pb.ServerLiveRequest()).live
        assert not stub.ServerReady(pb.ServerReadyRequest()).ready  # one model is loading
        assert stub.ServerMetadata(pb.ServerMetadataRequest()).name == "mien"
        assert stub.ModelReady(pb.ModelReadyRequest(name="tiny", version="3")).ready
        assert not stub.ModelReady(pb.ModelReadyRequest(name="loading")).ready
        metadata = stub.ModelMetadata(pb.ModelMetadataRequest(name="tiny"))
        assert metadata.versions == ["3"]
        assert [(t.name, t.datatype, list(t.shape)) for t in metadata.inputs] == [
            ("data", "FP32", [-1, 3, SIDE, SIDE])
        ]
        assert [(t.name, t.datatype, list(t.shape)) for t in metadata.outputs] == [
            ("embedding", "FP32", [-1, DIMENSION])
        ]

    def test_gives_the_networks_own_output(self, stub: GRPCInferenceServiceStub) -> None:
        batch = random_batch(5)
        response = stub.ModelInfer(_request(batch, model_version="3", id="mine"))
        assert (response.model_name, response.model_version, response.id) == ("tiny", "3", "mine")
        got = np.frombuffer(response.raw_output_contents[0], "<f4").reshape(5, DIMENSION)
        np.testing.assert_allclose(got, expected(batch, DIMENSION), rtol=1e-4, atol=1e-4)

    def test_typed_contents_are_answered_with_typed_contents(
        self, stub: GRPCInferenceServiceStub
    ) -> None:
        batch = random_batch(2)
        request = pb.ModelInferRequest(model_name="tiny")
        tensor = request.inputs.add(name="data", datatype="FP32", shape=batch.shape)
        tensor.contents.fp32_contents.extend(batch.ravel().tolist())
        output = stub.ModelInfer(request).outputs[0]
        got = np.array(output.contents.fp32_contents).reshape(output.shape)
        np.testing.assert_allclose(got, expected(batch, DIMENSION), rtol=1e-4, atol=1e-4)

    def test_crops_give_the_vectors_that_mien_compares(
        self, stub: GRPCInferenceServiceStub
    ) -> None:
        crops = np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE, 3), np.uint8)
        request = pb.ModelInferRequest(model_name="tiny-crops")
        request.inputs.add(name="crops", datatype="UINT8", shape=crops.shape)
        request.raw_input_contents.append(crops.tobytes())
        raw = stub.ModelInfer(request).raw_output_contents[0]
        got = np.frombuffer(raw, "<f4").reshape(3, DIMENSION)
        pixels = crops.transpose(0, 3, 1, 2).astype(np.float32)
        prepared = (pixels / np.float32(255) - np.float32(0.5)) / np.float32(0.5)
        vectors = expected(prepared, DIMENSION)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        np.testing.assert_allclose(got, vectors, rtol=1e-3, atol=1e-4)

    def test_every_datatype_comes_back_as_it_was(self, stub: GRPCInferenceServiceStub) -> None:
        request = pb.ModelInferRequest(model_name="mirror")
        for name, array in MIRRORED.items():
            request.inputs.add(name=f"in_{name}", datatype=name, shape=array.shape)
            request.raw_input_contents.append(_raw(name, array))
        response = stub.ModelInfer(request)
        assert [output.datatype for output in response.outputs] == list(MIRRORED)
        assert list(response.raw_output_contents) == list(request.raw_input_contents)

    def test_only_the_wanted_outputs_come(self, stub: GRPCInferenceServiceStub) -> None:
        request = pb.ModelInferRequest(model_name="mirror")
        for name, array in MIRRORED.items():
            request.inputs.add(name=f"in_{name}", datatype=name, shape=array.shape)
            request.raw_input_contents.append(_raw(name, array))
        for name in ("BYTES", "INT64"):
            request.outputs.add(name=name)
        response = stub.ModelInfer(request)
        assert [output.name for output in response.outputs] == ["BYTES", "INT64"]

    @pytest.mark.parametrize(
        ("change", "code", "words"),
        [
            ({"model_name": "nobody"}, grpc.StatusCode.NOT_FOUND, "Served: "),
            ({"model_version": "9"}, grpc.StatusCode.NOT_FOUND, "Served: 3"),
            ({"name": "image"}, grpc.StatusCode.INVALID_ARGUMENT, "Its inputs: data"),
            ({"datatype": "FP16"}, grpc.StatusCode.INVALID_ARGUMENT, "takes FP32"),
            ({"shape": [1, SIDE, SIDE, 3]}, grpc.StatusCode.INVALID_ARGUMENT, "any, 3, 16, 16"),
            ({"shape": [0, 3, SIDE, SIDE]}, grpc.StatusCode.INVALID_ARGUMENT, "shape"),
            ({"shape": [3, SIDE, SIDE]}, grpc.StatusCode.INVALID_ARGUMENT, "shape"),
            ({"shape": [2, 3, SIDE, SIDE]}, grpc.StatusCode.INVALID_ARGUMENT, "3072 were given"),
            ({"shape": [17, 3, SIDE, SIDE]}, grpc.StatusCode.RESOURCE_EXHAUSTED, "at most 16 rows"),
            ({"no_inputs": True}, grpc.StatusCode.INVALID_ARGUMENT, "'data' is missing"),
            ({"twice": True}, grpc.StatusCode.INVALID_ARGUMENT, "given twice"),
            ({"no_raw": True}, grpc.StatusCode.INVALID_ARGUMENT, "0 were given"),
            ({"more_raw": True}, grpc.StatusCode.INVALID_ARGUMENT, "2 raw contents for 1"),
            ({"both": True}, grpc.StatusCode.INVALID_ARGUMENT, "not both"),
            ({"output": "nothing"}, grpc.StatusCode.INVALID_ARGUMENT, "Its outputs: embedding"),
            ({"shared_memory": True}, grpc.StatusCode.INVALID_ARGUMENT, "does not have that"),
        ],
        ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
    )
    def test_wrong_requests_say_what_is_wrong(
        self,
        stub: GRPCInferenceServiceStub,
        change: Mapping[str, Any],
        code: grpc.StatusCode,
        words: str,
    ) -> None:
        request = _request(random_batch(1))
        tensor = request.inputs[0]
        for field, value in change.items():
            match field:
                case "model_name" | "model_version":
                    setattr(request, field, value)
                case "name" | "datatype":
                    setattr(tensor, field, value)
                case "shape":
                    tensor.shape[:] = value
                case "no_inputs":
                    del request.inputs[:]
                case "twice":
                    request.inputs.add().CopyFrom(tensor)
                case "no_raw":
                    del request.raw_input_contents[:]
                case "more_raw":
                    request.raw_input_contents.append(b"")
                case "both":
                    tensor.contents.fp32_contents.append(1)
                case "output":
                    request.outputs.add(name=value)
                case "shared_memory":
                    tensor.parameters["shared_memory_region"].string_param = "mine"
        with pytest.raises(grpc.RpcError) as caught:
            stub.ModelInfer(request)
        failure = rich_error(caught.value)
        assert failure.code is code
        assert words in failure.message

    def test_overload_is_told_with_a_delay(self, stub: GRPCInferenceServiceStub) -> None:
        with pytest.raises(grpc.RpcError) as caught:
            stub.ModelInfer(_small("busy"))
        failure = rich_error(caught.value)
        assert failure.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert failure.retry_seconds == pytest.approx(1.5)

    def test_a_crash_is_internal_and_keeps_its_text(self, stub: GRPCInferenceServiceStub) -> None:
        with pytest.raises(grpc.RpcError) as caught:
            stub.ModelInfer(_small("broken"))
        failure = rich_error(caught.value)
        assert failure.code is grpc.StatusCode.INTERNAL
        assert "secret" not in failure.message


class _Gate(WeightlessEngine):
    """Lets no inference through until it is opened."""

    def __init__(self) -> None:
        super().__init__(dimension=DIMENSION, shape=(SIDE, SIDE))
        self.opened = threading.Event()

    def infer(self, inputs: Mapping[str, NDArray[np.float32]]) -> Arrays:
        self.opened.wait(30)
        return super().infer(inputs)


def test_a_full_queue_refuses_at_once() -> None:
    gate = _Gate()
    embedder = Embedder(tiny_card(SIDE, DIMENSION), gate)
    options = BatcherOptions(max_batch=1, max_rows=2)

    def build() -> list[ServedModel]:
        return served_models([QueuedEmbedder(embedder, options)], options, MAX_ROWS)

    with (
        serving(build) as running,
        grpc.insecure_channel(running.grpc, options=NO_PROXY) as channel,
    ):
        stub = GRPCInferenceServiceStub(channel)
        request = _request(random_batch(1))
        waiting = [stub.ModelInfer.future(request) for _ in range(4)]  # two at work, two wait
        time.sleep(0.5)
        started = time.monotonic()
        with pytest.raises(grpc.RpcError) as caught:
            stub.ModelInfer(request, timeout=5)
        assert time.monotonic() - started < 0.5
        assert rich_error(caught.value).code is grpc.StatusCode.RESOURCE_EXHAUSTED
        gate.opened.set()
        for call in waiting:
            call.result(timeout=30)


def test_work_whose_caller_has_gone_is_never_begun() -> None:
    gate = _Gate()
    embedder = Embedder(tiny_card(SIDE, DIMENSION), gate)
    options = BatcherOptions(max_batch=1)

    def build() -> list[ServedModel]:
        return served_models([QueuedEmbedder(embedder, options)], options, MAX_ROWS)

    with (
        serving(build) as running,
        grpc.insecure_channel(running.grpc, options=NO_PROXY) as channel,
    ):
        stub = GRPCInferenceServiceStub(channel)
        request = _request(random_batch(1))
        at_work = [stub.ModelInfer.future(request) for _ in range(2)]
        time.sleep(0.3)
        with pytest.raises(grpc.RpcError) as caught:
            stub.ModelInfer(request, timeout=0.2)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        time.sleep(0.2)
        gate.opened.set()
        for call in at_work:
            call.result(timeout=30)
        stub.ModelInfer(request)
        assert gate.calls == 3  # the two at work and the last one


class _Busy(WeightlessEngine):
    def infer(self, inputs: Mapping[str, NDArray[np.float32]]) -> Arrays:
        raise EngineBusyError("no room")


def test_an_engine_without_room_is_overload() -> None:
    embedder = Embedder(tiny_card(SIDE, DIMENSION), _Busy(DIMENSION, (SIDE, SIDE)))
    options = BatcherOptions()

    def build() -> list[ServedModel]:
        return served_models([QueuedEmbedder(embedder, options)], options, MAX_ROWS)

    with (
        serving(build) as running,
        grpc.insecure_channel(running.grpc, options=NO_PROXY) as channel,
        pytest.raises(grpc.RpcError) as caught,
    ):
        GRPCInferenceServiceStub(channel).ModelInfer(_request(random_batch(1)))
    assert rich_error(caught.value).code is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_reflection_finds_the_protocol_and_miens_own_services() -> None:
    names = [SERVICE_NAME, "mien.v1.EmbeddingService", "no.such.Service"]
    pool = reflection_pool(names)
    for name in names[:2]:
        assert pool.FindFileContainingSymbol(name).services_by_name[name.rpartition(".")[2]]
    with pytest.raises(KeyError):
        pool.FindFileContainingSymbol(names[2])


def _small(model: str) -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name=model, raw_input_contents=[bytes(8)])
    request.inputs.add(name="data", datatype="FP32", shape=[1, 2])
    return request


def _raw(name: str, array: NDArray[Any]) -> bytes:
    if name == "BYTES":
        return b"".join(struct.pack("<I", len(item)) + item for item in array.ravel())
    return array.tobytes()
