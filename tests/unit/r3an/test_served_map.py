"""A real R3AN map, as it is exported and served: nothing of the face inside it comes out."""

import json
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import onnx
import pytest
import torch

from models.r3an.confidence import ServedMap
from models.r3an.network import Extractor, Generator, R3an
from models.training.onnx_export import write_onnx
from models.zoo import MapCard, Zoo
from services.mapping import MappingServer, probe_map
from services.rpc.inference import grpc_inference_pb2 as pb
from services.rpc.inference.grpc_inference_pb2_grpc import GRPCInferenceServiceStub
from services.rpc.mien.v1 import mapping_pb2
from tests.integration.harness import NO_PROXY
from tests.integration.mapping.tiny_mapping import (
    SOURCE,
    TARGET,
    card_fields,
    loaded,
    request,
    serving,
    stub_of,
    units,
    vectors_of,
)


@pytest.fixture(scope="module")
def network() -> ServedMap:
    torch.manual_seed(0)
    served = ServedMap(R3an(Generator(SOURCE), Extractor(TARGET)), (SOURCE, TARGET))
    return served.eval()


@pytest.fixture(scope="module")
def exported(network: ServedMap, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("r3an-map") / "map.onnx"
    write_onnx(network, path, {"vector": torch.from_numpy(units(4))}, ["mapped", "confidence"])
    return path


@pytest.fixture(scope="module")
def server(exported: Path) -> Iterator[MappingServer]:
    home = exported.parent
    card = home / "card.json"
    card.write_text(json.dumps(card_fields(exported, "r3an-map")))
    added = Zoo(home).add_map(exported, card, probe_map)
    assert isinstance(added, MapCard)
    with serving(loaded(home, "r3an-map")) as running:
        yield running


def shapes(values: object) -> dict[str, list[int | str]]:
    return {
        one.name: [side.dim_value or side.dim_param for side in one.type.tensor_type.shape.dim]
        for one in values  # type: ignore[attr-defined]
    }


def test_the_exported_graph_draws_a_face_inside_and_gives_none(exported: Path) -> None:
    graph = onnx.shape_inference.infer_shapes(onnx.load(exported)).graph
    outputs = shapes(graph.output)
    assert {name: shape[1:] for name, shape in outputs.items()} == {
        "mapped": [TARGET], "confidence": [1],
    }  # fmt: skip
    assert list(shapes(graph.input)) == ["vector"]
    pictures = [
        name for name, shape in shapes(graph.value_info).items() if shape[1:] == [3, 56, 56]
    ]
    assert pictures, "this is a map with a generator"
    assert not set(pictures) & set(outputs)


def test_the_service_gives_what_the_network_gives_and_no_picture(
    server: MappingServer, network: ServedMap
) -> None:
    given = units(5)
    with stub_of(server) as stub:
        answer = stub.Map(request(given, map="r3an-map"))
    with torch.no_grad():
        made, trust = network(torch.from_numpy(given))
    np.testing.assert_allclose(vectors_of(answer), made.numpy(), atol=1e-4)
    np.testing.assert_allclose(answer.confidences, trust[:, 0].numpy(), atol=1e-4)
    largest = max(len(one) for one in answer.vectors)
    assert largest == TARGET * 4
    assert {field.name for field in mapping_pb2.MapResponse.DESCRIPTOR.fields} == {
        "identity", "map_sha256", "vectors", "confidences", "queue_ms", "inference_ms",
    }  # fmt: skip


def test_the_inference_protocol_knows_of_no_picture(server: MappingServer) -> None:
    with grpc.insecure_channel(server.address, options=NO_PROXY) as channel:
        stub = GRPCInferenceServiceStub(channel)
        metadata = stub.ModelMetadata(pb.ModelMetadataRequest(name="r3an-map"))
        assert {one.name: list(one.shape) for one in metadata.outputs} == {
            "mapped": [-1, TARGET], "confidence": [-1, 1],
        }  # fmt: skip
        asked = pb.ModelInferRequest(model_name="r3an-map")
        given = units(1)
        asked.inputs.add(name="vector", datatype="FP32", shape=given.shape)
        asked.raw_input_contents.append(given.tobytes())
        asked.outputs.add(name="image")
        with pytest.raises(grpc.RpcError):
            stub.ModelInfer(asked)
