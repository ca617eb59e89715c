"""The Open Inference Protocol of the mapping service."""

from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from services.http import HttpServer
from services.mapping import MappingServer
from services.rpc.inference import grpc_inference_pb2 as pb
from services.rpc.inference.grpc_inference_pb2_grpc import GRPCInferenceServiceStub
from tests.integration.harness import NO_PROXY, call, code_of, rich_error
from tests.integration.mapping.tiny_mapping import (
    SOURCE,
    TARGET,
    units,
)
from tests.tiny_networks import expected_mapped


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
