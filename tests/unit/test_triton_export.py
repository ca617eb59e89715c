"""The Triton model repository: its files, its graphs, and what is refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from models.zoo import Zoo, ZooError, read_card
from services.triton_export import TritonExportError, TritonOptions, export_triton, triton_identity
from services.triton_graph import GraphError, write_batched
from tests.integration.triton_python import run_python, triton_python
from tests.tiny_networks import SIDE, expected, expected_weights, write_network

DIMENSION = 8

_PARSE = """
import json, sys
from google.protobuf import json_format, text_format
from tritonclient.grpc import model_config_pb2
config = text_format.Parse(open(sys.argv[1]).read(), model_config_pb2.ModelConfig())
print(json_format.MessageToJson(config, preserving_proto_field_name=True))
"""


def _zoo(home: Path, **versions: dict[str, object]) -> Zoo:
    """A zoo with embedders `tiny`; each version's options are `write_network`'s."""
    zoo = Zoo(home)
    for version, options in versions.items():
        home.mkdir(exist_ok=True)
        number = version.removeprefix("v")
        path = write_network(home / f"{version}.onnx", **{"dimension": DIMENSION, **options})  # type: ignore[arg-type]
        card = home / "card.json"
        card.write_text(
            json.dumps(
                {
                    "name": "tiny",
                    "version": number,
                    "input": {"width": SIDE, "height": SIDE},
                    "output": {"dimension": DIMENSION},
                }
            )
        )
        zoo.add(path, card, lambda *_: None)
    return zoo


@pytest.fixture
def zoo(tmp_path: Path) -> Zoo:
    return _zoo(tmp_path / "home", v1={"batch": 1})


def test_a_fixed_batch_is_freed(zoo: Zoo, tmp_path: Path) -> None:
    [exported] = export_triton(zoo, ["tiny"], tmp_path / "repository")
    assert (exported.reference, exported.name, exported.version) == ("tiny@1", "tiny", 1)
    session = onnxruntime.InferenceSession(exported.folder / "1" / "model.onnx")
    batch = np.random.default_rng(0).standard_normal((5, 3, SIDE, SIDE)).astype(np.float32)
    [got] = session.run(None, {"data": batch})
    np.testing.assert_allclose(got, expected(batch, DIMENSION), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("batch", [1, None], ids=["fixed batch", "free batch"])
def test_both_outputs_of_a_network_are_exported(tmp_path: Path, batch: int | None) -> None:
    zoo = _zoo(tmp_path / "home", v1={"batch": batch, "fusion": "omega"})
    [exported] = export_triton(zoo, ["tiny"], tmp_path / "repository")
    session = onnxruntime.InferenceSession(exported.folder / "1" / "model.onnx")
    rows = np.random.default_rng(0).uniform(0, 255, (5, 3, SIDE, SIDE)).astype(np.float32)
    vectors, weights = session.run(["embedding", "omega"], {"data": rows})
    np.testing.assert_allclose(vectors, expected(rows, DIMENSION), rtol=1e-3, atol=1e-2)
    np.testing.assert_allclose(weights, expected_weights(rows), atol=1e-5)
    config = (exported.folder / "config.pbtxt").read_text("utf-8")
    assert '{ name: "embedding" data_type: TYPE_FP32 dims: [ 8 ] }' in config
    assert '{ name: "omega" data_type: TYPE_FP32 dims: [ 1 ] }' in config


def test_a_free_batch_is_copied_as_it_is(tmp_path: Path) -> None:
    zoo = _zoo(tmp_path / "home", v2={})
    [exported] = export_triton(zoo, ["tiny"], tmp_path / "repository")
    written = (exported.folder / "2" / "model.onnx").read_bytes()
    assert written == zoo.weights(zoo.card("tiny")).read_bytes()


def test_the_card_with_the_thresholds_lies_beside_the_configuration(
    zoo: Zoo, tmp_path: Path
) -> None:
    [exported] = export_triton(zoo, ["tiny"], tmp_path / "repository")
    assert read_card(exported.folder / "card-1.json") == zoo.card("tiny")
    assert 'key: "mien.1.card" value { string_value: "card-1.json" }' in (
        exported.folder / "config.pbtxt"
    ).read_text("utf-8")


@pytest.mark.parametrize(
    ("options", "facts"),
    [
        (
            TritonOptions(),
            {
                "platform": "onnxruntime_onnx",
                "max_batch_size": 32,
                "instance_group": [{"count": 1}],  # KIND_AUTO is the schema's default
                "input": [{"name": "data", "data_type": "TYPE_FP32", "dims": ["3", "16", "16"]}],
                "output": [{"name": "embedding", "data_type": "TYPE_FP32", "dims": ["8"]}],
                "version_policy": {"all": {}},
                "dynamic_batching": {
                    "preferred_batch_size": [8, 16, 32],
                    "max_queue_delay_microseconds": "500",
                    "default_queue_policy": {"max_queue_size": 512},
                },
            },
        ),
        (
            TritonOptions(backend="python", device="cpu", max_batch=12, instances=2, max_queue=9),
            {
                "backend": "python",
                "max_batch_size": 12,
                "instance_group": [{"kind": "KIND_CPU", "count": 2}],
                "dynamic_batching": {
                    "preferred_batch_size": [8],
                    "max_queue_delay_microseconds": "500",
                    "default_queue_policy": {"max_queue_size": 9},
                },
            },
        ),
        (
            TritonOptions(device="gpu", accelerator="tensorrt"),
            {
                "instance_group": [{"kind": "KIND_GPU", "count": 1}],
                "optimization": {
                    "input_pinned_memory": {"enable": True},
                    "output_pinned_memory": {"enable": True},
                    "execution_accelerators": {
                        "gpu_execution_accelerator": [
                            {"name": "tensorrt", "parameters": {"precision_mode": "FP16"}}
                        ]
                    },
                },
            },
        ),
        (
            TritonOptions(device="cpu", accelerator="openvino"),
            {
                "optimization": {
                    "execution_accelerators": {"cpu_execution_accelerator": [{"name": "openvino"}]}
                }
            },
        ),
        (
            TritonOptions(backend="tensorrt"),
            {"platform": "tensorrt_plan", "optimization": {"cuda": {"graphs": True}}},
        ),
    ],
    ids=["plain", "python", "tensorrt-accelerator", "openvino-accelerator", "tensorrt"],
)
def test_tritons_own_schema_reads_the_configuration(
    zoo: Zoo, tmp_path: Path, options: TritonOptions, facts: dict[str, object]
) -> None:
    python = triton_python("tritonclient", "grpc")
    [exported] = export_triton(
        zoo,
        ["tiny"],
        tmp_path / "repository",
        options,
        build_plan=lambda source, plan: plan.write_bytes(source.read_bytes()[:4]),
    )
    config = json.loads(run_python(python, _PARSE, exported.folder / "config.pbtxt"))
    assert config["name"] == "tiny"
    assert {key: config.get(key) for key in facts} == facts
    warm = config["model_warmup"]
    assert [sample["batch_size"] for sample in warm] == [1, config["max_batch_size"]]
    assert warm[0]["inputs"]["data"] == {
        "data_type": "TYPE_FP32",
        "dims": ["3", "16", "16"],
        "random_data": True,
    }
    assert config["parameters"]["mien.1.model"] == {"string_value": "tiny@1"}


def test_a_plan_takes_the_place_of_the_onnx_file(zoo: Zoo, tmp_path: Path) -> None:
    [exported] = export_triton(
        zoo,
        ["tiny"],
        tmp_path / "repository",
        TritonOptions(backend="tensorrt"),
        build_plan=lambda _, plan: plan.write_text("plan"),
    )
    assert [path.name for path in (exported.folder / "1").iterdir()] == ["model.plan"]


def test_versions_become_versions(tmp_path: Path) -> None:
    zoo = _zoo(tmp_path / "home", v1={"batch": 1}, v2={})
    exported = export_triton(zoo, ["tiny@2", "tiny@1"], tmp_path / "repository")
    assert {(one.reference, one.name, one.version) for one in exported} == {
        ("tiny@1", "tiny", 1),
        ("tiny@2", "tiny", 2),
    }
    names = sorted(path.name for path in (tmp_path / "repository" / "tiny").iterdir())
    assert names == ["1", "2", "card-1.json", "card-2.json", "config.pbtxt"]


def test_versions_with_other_tensors_are_refused(tmp_path: Path) -> None:
    zoo = _zoo(tmp_path / "home", v1={}, v2={"output": "vector"})
    with pytest.raises(TritonExportError, match="other tensors"):
        export_triton(zoo, ["tiny@1", "tiny@2"], tmp_path / "repository")
    assert not list((tmp_path / "repository").iterdir())


def test_a_version_that_is_no_number_goes_into_the_name(zoo: Zoo) -> None:
    assert triton_identity(zoo.card("sface")) == ("sface", 1)
    assert triton_identity(zoo.card("yunet")) == ("yunet-2023mar", 1)


def test_what_is_there_is_kept_unless_it_may_be_replaced(zoo: Zoo, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    export_triton(zoo, ["tiny"], repository)
    (repository / "other").mkdir()
    (repository / "tiny" / "mark").touch()
    with pytest.raises(TritonExportError, match="tiny already"):
        export_triton(zoo, ["tiny"], repository)
    assert (repository / "tiny" / "mark").exists()
    export_triton(zoo, ["tiny"], repository, overwrite=True)
    assert not (repository / "tiny" / "mark").exists()
    assert {path.name for path in repository.iterdir()} == {"other", "tiny"}


def test_what_cannot_be_exported(zoo: Zoo, tmp_path: Path) -> None:
    with pytest.raises(ZooError, match="no model 'nobody'"):
        export_triton(zoo, ["nobody"], tmp_path / "repository")
    with pytest.raises(TritonExportError, match="plan is built on the machine"):
        export_triton(zoo, ["tiny"], tmp_path / "repository", TritonOptions(backend="tensorrt"))


@pytest.mark.parametrize(
    "options",
    [
        {"max_batch": 0},
        {"backend": "python", "accelerator": "tensorrt"},
        {"device": "cpu", "accelerator": "tensorrt"},
        {"device": "gpu", "accelerator": "openvino"},
        {"device": "cpu", "backend": "tensorrt"},
    ],
)
def test_options_that_contradict_each_other(options: dict[str, object]) -> None:
    with pytest.raises(TritonExportError):
        TritonOptions(**options)  # type: ignore[arg-type]


def test_freeing_a_batch_without_onnx_says_what_to_install(
    zoo: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(TritonExportError, match=r"mien\[train\]"):
        export_triton(zoo, ["tiny"], tmp_path / "repository")


def _reshaping(path: Path, sizes: list[int]) -> Path:
    """A network of a fixed batch of 1 whose output a Reshape puts together."""
    graph = helper.make_graph(
        [helper.make_node("Reshape", ["data", "sizes"], ["out"])],
        "reshaping",
        [helper.make_tensor_value_info("data", TensorProto.FLOAT, [1, 3, 4, 4])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, [1, 16, 3][: len(sizes)])],
        [numpy_helper.from_array(np.array(sizes, np.int64), "sizes")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path


def test_a_reshape_that_states_the_batch_is_freed_with_it(tmp_path: Path) -> None:
    graph = write_batched(
        _reshaping(tmp_path / "fixed.onnx", [1, -1, 3]), tmp_path / "free.onnx", free_size=True
    )
    assert graph.source.shape == (-1, 3, -1, -1)
    assert graph.outputs[0].shape == (-1, -1, 3)
    session = onnxruntime.InferenceSession(tmp_path / "free.onnx")
    [got] = session.run(None, {"data": np.zeros((2, 3, 8, 4), np.float32)})
    assert got.shape == (2, 32, 3)


def test_a_graph_that_mixes_its_rows_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mixing.onnx"
    graph = helper.make_graph(
        [
            helper.make_node("ReduceSum", ["data", "axes"], ["sum"], keepdims=0),
            helper.make_node("Add", ["data", "sum"], ["out"]),
        ],
        "mixing",
        [helper.make_tensor_value_info("data", TensorProto.FLOAT, [1, 3, 4, 4])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, [1, 3, 4, 4])],
        [numpy_helper.from_array(np.array([0], np.int64), "axes")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    with pytest.raises(GraphError, match="not independent"):
        write_batched(path, tmp_path / "free.onnx")


def test_the_released_detector_takes_several_pictures_of_any_size(
    mien_home: Path, tmp_path: Path
) -> None:
    [exported] = export_triton(Zoo(mien_home), ["yunet"], tmp_path / "repository")
    session = onnxruntime.InferenceSession(exported.folder / "1" / "model.onnx")
    pictures = np.random.default_rng(1).uniform(0, 255, (2, 3, 64, 128)).astype(np.float32)
    together = session.run(["bbox_8", "kps_32"], {"input": pictures})
    assert [array.shape for array in together] == [(2, 128, 4), (2, 8, 10)]
    for row in range(2):
        alone = session.run(["bbox_8", "kps_32"], {"input": pictures[row : row + 1]})
        for one, both in zip(alone, together, strict=True):
            np.testing.assert_allclose(one[0], both[row], rtol=1e-3, atol=1e-3)
