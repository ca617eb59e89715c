"""OpenVINO: fixed shapes beside the free one, and mixed precision under the parity gate."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino
import pytest
from numpy.typing import NDArray

from services.runtime.engine import EngineError, EngineOptions
from services.runtime.onnxruntime_engine import OnnxRuntimeEngine
from services.runtime.openvino_engine import OpenVinoEngine
from services.runtime.openvino_mixed import mixed_precision
from services.runtime.select import Gate, load_engine
from tests.unit.tiny_onnx import cancelling_embedder, tiny_embedder, tiny_map

_OPTIONS = EngineOptions(threads=1)
_CAN_MIX = {"BF16", "INT8"} <= set(openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))
needs_mixing = pytest.mark.skipif(not _CAN_MIX, reason="this CPU has no bf16 or no int8")


def pictures(count: int, side: int = 16) -> NDArray[np.float32]:
    rng = np.random.default_rng(count)
    return rng.integers(0, 256, (count, 3, side, side)).astype(np.float32)


def kernels(model: openvino.Model) -> list[str]:
    """The precision that each convolution and dense layer runs in, in order."""
    hint = {"INFERENCE_PRECISION_HINT": "bf16"}
    ran = openvino.Core().compile_model(model, "CPU", hint).get_runtime_model()
    heavy = ("Convolution", "FullyConnected", "MatMul")
    return [
        str(op.get_rt_info()["runtimePrecision"].value)
        for op in ran.get_ordered_ops()
        if str(op.get_rt_info()["layerType"].value).startswith(heavy)
    ]


def test_a_fixed_shape_gives_what_the_free_one_gives(tmp_path: Path) -> None:
    path = tiny_embedder(tmp_path / "embedder.onnx")
    free, fixed = OpenVinoEngine(path, _OPTIONS), OpenVinoEngine(path, _OPTIONS)
    fixed.specialise([(2, 3, 16, 16)])
    for count in (1, 2, 3):
        given = {"data": pictures(count)}
        ours, theirs = fixed.infer(given)["embedding"], free.infer(given)["embedding"]
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    fixed.close()


def test_a_shape_that_the_network_cannot_take_is_refused(tmp_path: Path) -> None:
    engine = OpenVinoEngine(tiny_embedder(tmp_path / "embedder.onnx"), _OPTIONS)
    with pytest.raises(EngineError, match=r"\(2, 4, 16, 16\)"):
        engine.specialise([(2, 4, 16, 16)])
    assert engine.infer({"data": pictures(2)})["embedding"].shape == (2, 8)


def test_a_fixed_shape_that_disagrees_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = OpenVinoEngine(tiny_embedder(tmp_path / "embedder.onnx"), _OPTIONS)
    other = OpenVinoEngine(tiny_embedder(tmp_path / "other.onnx", coarse=True), _OPTIONS)
    expected = engine.infer({"data": pictures(2)})["embedding"]
    monkeypatch.setattr(engine, "_compile", other._compile)
    monkeypatch.setattr(engine, "_model", other._model)
    engine.specialise([(2, 3, 16, 16)])
    np.testing.assert_array_equal(engine.infer({"data": pictures(2)})["embedding"], expected)


def test_outputs_are_in_memory_of_their_own(tmp_path: Path) -> None:
    engine = OpenVinoEngine(tiny_embedder(tmp_path / "embedder.onnx"), _OPTIONS)
    first = engine.infer({"data": pictures(1)})["embedding"]
    kept = first.copy()
    engine.infer({"data": 255 - pictures(1)})
    np.testing.assert_array_equal(first, kept)


@needs_mixing
def test_int8_is_mixed_with_bf16_and_as_much_fp32_as_asked(tmp_path: Path) -> None:
    path = cancelling_embedder(tmp_path / "cancelling.onnx")
    shapes = {"data": openvino.PartialShape([-1, 3, 16, 16])}
    sample = [{"data": pictures(4)}]
    assert kernels(mixed_precision(path, shapes, sample, 0)) == ["bf16", "bf16", "u8"]
    assert kernels(mixed_precision(path, shapes, sample, 2)) == ["f32", "f32", "u8"]


@needs_mixing
def test_the_gate_keeps_layers_in_fp32_that_cannot_bear_rounding(tmp_path: Path) -> None:
    path = cancelling_embedder(tmp_path / "cancelling.onnx")
    gate = Gate((0.0, 255.0), tmp_path / "plans")
    engine = load_engine(path, "openvino", _OPTIONS, precision="int8", gate=gate)
    assert engine.info.precision == "int8"
    exact = OpenVinoEngine(path, _OPTIONS).infer({"data": pictures(4)})["embedding"]
    found = engine.infer({"data": pictures(4)})["embedding"]
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(exact, axis=1)
    assert ((found * exact).sum(axis=1) / lengths).min() > 0.999
    coarse = OpenVinoEngine(path, EngineOptions(precision="int8", threads=1))
    rough = coarse.infer({"data": pictures(4)})["embedding"]
    lengths = np.linalg.norm(rough, axis=1) * np.linalg.norm(exact, axis=1)
    assert ((rough * exact).sum(axis=1) / lengths).min() < 0.999


@needs_mixing
def test_without_a_mixture_that_passes_fp32_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.runtime.select.EXACT_LAYERS", (0,))
    path = cancelling_embedder(tmp_path / "cancelling.onnx")
    gate = Gate((0.0, 255.0), tmp_path / "plans")
    engine = load_engine(path, "openvino", _OPTIONS, precision="int8", gate=gate)
    assert engine.info.precision == "fp32"


@needs_mixing
def test_a_network_without_dense_layers_is_mixed_too(tmp_path: Path) -> None:
    engine = OpenVinoEngine(
        tiny_map(tmp_path / "map.onnx"), EngineOptions(precision="int8", threads=1)
    )
    shape = tuple(max(1, side) for side in engine.info.inputs[0].shape)
    answer = engine.infer({engine.info.inputs[0].name: np.zeros(shape, np.float32)})
    assert all(np.isfinite(array).all() for array in answer.values())


# --- two outputs: vectors, and one number for each picture ------------------------------------

either_order = pytest.mark.parametrize("order", ["first", "last"])


def both_outputs(path: Path, count: int = 4) -> dict[str, NDArray[np.float32]]:
    answer = OnnxRuntimeEngine(path, _OPTIONS).infer({"data": pictures(count)})
    assert answer["weight"].std() > 0.01, "numbers that are all alike could be mixed up"
    return answer


@either_order
def test_two_outputs_keep_their_names(tmp_path: Path, order: str) -> None:
    path = tiny_embedder(tmp_path / "weighing.onnx", weight=order)
    engine = OpenVinoEngine(path, _OPTIONS)
    engine.specialise([(4, 3, 16, 16)])
    assert (4, 3, 16, 16) in engine._fixed
    for count in (3, 4):
        answer, expected = engine.infer({"data": pictures(count)}), both_outputs(path, count)
        assert {name: array.shape for name, array in answer.items()} == {
            "embedding": (count, 8),
            "weight": (count, 1),
        }
        for name, values in expected.items():
            np.testing.assert_allclose(answer[name], values, rtol=1e-4, atol=1e-4)


@needs_mixing
@either_order
@pytest.mark.parametrize("exact", [0, 2])
def test_two_outputs_are_mixed_and_keep_their_names(tmp_path: Path, order: str, exact: int) -> None:
    path = tiny_embedder(tmp_path / "weighing.onnx", weight=order)
    options = EngineOptions(precision="int8", threads=1, exact_layers=exact)
    answer, expected = (
        OpenVinoEngine(path, options).infer({"data": pictures(4)}),
        both_outputs(path),
    )
    assert answer["embedding"].shape == (4, 8)
    np.testing.assert_allclose(answer["weight"], expected["weight"], atol=0.03)
    assert not np.array_equal(answer["weight"], expected["weight"]), "nothing was rounded"


@needs_mixing
@either_order
def test_the_gate_lets_two_outputs_in_int8_pass(tmp_path: Path, order: str) -> None:
    path = tiny_embedder(tmp_path / "weighing.onnx", weight=order)
    gate = Gate((0.0, 255.0), tmp_path / "plans")
    engine = load_engine(path, "openvino", _OPTIONS, precision="int8", gate=gate)
    assert engine.info.precision == "int8"
