"""A model with two outputs, vectors and fusion weights, over the Open Inference Protocol."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from services.embedding import Embedder
from services.rpc.inference import grpc_inference_pb2 as pb
from services.rpc.inference.grpc_inference_pb2_grpc import GRPCInferenceServiceStub
from services.runtime.triton_engine import RemoteModel, TritonEngine
from tests.integration.inference_server import (
    DIMENSION,
    NO_PROXY,
    Server,
    random_batch,
    tiny_card,
    weighing_server,
)
from tests.tiny_networks import SIDE, expected, expected_weights

CROPS = np.random.default_rng(0).integers(0, 256, (5, SIDE, SIDE, 3), np.uint8)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with weighing_server(tmp_path_factory.mktemp("weighing")) as running:
        yield running


@pytest.fixture
def stub(server: Server) -> Iterator[GRPCInferenceServiceStub]:
    with grpc.insecure_channel(server.grpc, options=NO_PROXY) as channel:
        yield GRPCInferenceServiceStub(channel)


def prepared() -> NDArray[np.float32]:
    """The crops as the card says."""
    pixels = CROPS.transpose(0, 3, 1, 2).astype(np.float32)
    return (pixels / np.float32(255) - np.float32(0.5)) / np.float32(0.5)


def infer(
    stub: GRPCInferenceServiceStub, model: str, name: str, datatype: str, array: NDArray[np.generic]
) -> dict[str, NDArray[np.float32]]:
    request = pb.ModelInferRequest(model_name=model)
    request.inputs.add(name=name, datatype=datatype, shape=array.shape)
    request.raw_input_contents.append(array.tobytes())
    response = stub.ModelInfer(request)
    return {
        output.name: np.frombuffer(raw, "<f4").reshape(output.shape)
        for output, raw in zip(response.outputs, response.raw_output_contents, strict=True)
    }


@pytest.mark.parametrize(
    ("model", "outputs"),
    [
        ("tiny", [("omega", [-1, 1]), ("embedding", [-1, DIMENSION])]),
        ("tiny-crops", [("embedding", [-1, DIMENSION]), ("weight", [-1, 1])]),
    ],
)
def test_both_outputs_are_listed(
    server: Server,
    stub: GRPCInferenceServiceStub,
    model: str,
    outputs: list[tuple[str, list[int]]],
) -> None:
    metadata = stub.ModelMetadata(pb.ModelMetadataRequest(name=model))
    assert [(tensor.name, list(tensor.shape)) for tensor in metadata.outputs] == outputs
    over_rest = httpx.get(f"{server.http}/v2/models/{model}", trust_env=False).json()
    assert [(tensor["name"], tensor["shape"]) for tensor in over_rest["outputs"]] == outputs


def test_the_network_gives_both_outputs(stub: GRPCInferenceServiceStub) -> None:
    batch = random_batch(5) * 100
    answer = infer(stub, "tiny", "data", "FP32", batch)
    np.testing.assert_allclose(answer["embedding"], expected(batch, DIMENSION), rtol=1e-3)
    weights = expected_weights(batch)
    assert weights.std() > 0.01, "weights that are all alike could be mixed up"
    np.testing.assert_allclose(answer["omega"], weights, atol=1e-5)


def test_crops_have_vectors_and_weights(stub: GRPCInferenceServiceStub) -> None:
    answer = infer(stub, "tiny-crops", "crops", "UINT8", CROPS)
    raw = expected(prepared(), DIMENSION)
    vectors = raw / np.linalg.norm(raw, axis=1, keepdims=True)
    np.testing.assert_allclose(answer["embedding"], vectors, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(answer["weight"], expected_weights(prepared()), atol=1e-6)


def test_an_engine_elsewhere_gives_both_outputs(server: Server) -> None:
    engine = TritonEngine(RemoteModel(server.grpc, "tiny", "3"))
    embedder = Embedder(tiny_card(SIDE, DIMENSION, weight="omega"), engine)
    done = embedder.embed_batch(CROPS)
    assert done.weights is not None
    np.testing.assert_allclose(done.weights, expected_weights(prepared())[:, 0], atol=1e-6)
    raw = done.vectors * done.lengths[:, None]
    np.testing.assert_allclose(raw, expected(prepared(), DIMENSION), rtol=1e-3, atol=1e-4)
    embedder.close()
