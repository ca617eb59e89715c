"""Tiny networks to build and compare: a convolution, a pooling and a vector at the end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

DIMENSION = 8


def tiny_embedder(
    path: Path,
    batch: int | str = "batch",
    side: int = 16,
    old_exporter: bool = False,
    coarse: bool = False,
    weight: str = "",
) -> Path:
    """Takes pictures of the given side from 0 to 255 and gives vectors of `DIMENSION`.

    Args:
        path: where it goes.
        batch: a name for a free one.
        side: height and width.
        old_exporter: whether weights are listed as inputs and kept as lists of numbers.
        coarse: whether the weights are rounded as hard as a bad quantisation would.
        weight: "first" or "last" for a second output "weight", one number from 0 to 1 for each
            picture, listed before or after the vectors.
    """
    rng = np.random.default_rng(5)
    arrays = {
        "kernel": rng.standard_normal((4, 3, 3, 3)) / 400,
        "slope": np.full((4, 1, 1), 0.25),
        "matrix": rng.standard_normal((4 * side * side // 4, DIMENSION)) / side,
    }
    if coarse:
        arrays["matrix"] = np.sign(arrays["matrix"])
    weights = [
        helper.make_tensor(name, TensorProto.FLOAT, array.shape, array.ravel().tolist())
        if old_exporter
        else numpy_helper.from_array(array.astype(np.float32), name)
        for name, array in arrays.items()
    ]
    nodes = [
        helper.make_node("Conv", ["data", "kernel"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("PRelu", ["c", "slope"], ["p"]),
        helper.make_node("MaxPool", ["p"], ["m"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["m"], ["f"]),
        helper.make_node("MatMul", ["f", "matrix"], ["embedding"]),
    ]
    inputs = [_value("data", batch, 3, side, side)]
    if old_exporter:
        inputs += [_value(name, *array.shape) for name, array in arrays.items()]
    outputs = [_value("embedding", batch, DIMENSION)]
    if weight:
        head = (rng.standard_normal((len(arrays["matrix"]), 1)) / side).astype(np.float32)
        weights.append(numpy_helper.from_array(head, "head"))
        nodes.append(helper.make_node("MatMul", ["f", "head"], ["logit"]))
        nodes.append(helper.make_node("Sigmoid", ["logit"], ["weight"]))
        outputs.insert(0 if weight == "first" else 1, _value("weight", batch, 1))
    return _save(path, nodes, inputs, outputs, weights)


def cancelling_embedder(path: Path) -> Path:
    """A network whose second convolution takes the difference of two large, nearly equal values.

    What is left is lost when the values are rounded to bf16, so that the gate must see to it that
    the first layers are not.
    """
    rng = np.random.default_rng(8)
    spread = np.zeros((8, 3, 1, 1), np.float32)
    spread[:, 0] = 1.0
    spread[1::2, 1] = 1 / 64
    differ = np.zeros((4, 8, 1, 1), np.float32)
    for row in range(4):
        differ[row, 2 * row], differ[row, 2 * row + 1] = 1.0 + row / 256, -1.0
    matrix = (rng.standard_normal((4 * 64, 8)) / 16).astype(np.float32)
    arrays: dict[str, np.ndarray] = {"spread": spread, "differ": differ, "matrix": matrix}
    nodes = [
        helper.make_node("Conv", ["data", "spread"], ["s"]),
        helper.make_node("Conv", ["s", "differ"], ["d"]),
        helper.make_node("Relu", ["d"], ["r"]),
        helper.make_node("AveragePool", ["r"], ["a"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["a"], ["f"]),
        helper.make_node("MatMul", ["f", "matrix"], ["embedding"]),
    ]
    weights = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    inputs, outputs = [_value("data", "batch", 3, 16, 16)], [_value("embedding", "batch", 8)]
    return _save(path, nodes, inputs, outputs, weights)


def tiny_map(path: Path, side: int = 32) -> Path:
    """Takes one picture and gives a map of one channel, as a detector does."""
    kernel = np.random.default_rng(6).standard_normal((1, 3, 3, 3)) / 400
    nodes = [
        helper.make_node("Conv", ["input", "kernel"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Sigmoid", ["c"], ["map"]),
    ]
    return _save(
        path,
        nodes,
        [_value("input", 1, 3, side, side)],
        [_value("map", 1, 1, side, side)],
        [numpy_helper.from_array(kernel.astype(np.float32), "kernel")],
    )


def tiny_quantised(path: Path, side: int = 16) -> Path:
    """A convolution whose input and weights carry int8 scales."""
    rng = np.random.default_rng(8)
    weights = [
        numpy_helper.from_array(rng.integers(-127, 128, (4, 3, 3, 3), np.int8), "kernel"),
        numpy_helper.from_array(np.array(2.0, np.float32), "input_scale"),
        numpy_helper.from_array(np.full(4, 1e-4, np.float32), "kernel_scale"),
        numpy_helper.from_array(np.array(0, np.int8), "zero"),
        numpy_helper.from_array(np.zeros(4, np.int8), "zeros"),
    ]
    nodes = [
        helper.make_node("QuantizeLinear", ["data", "input_scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "input_scale", "zero"], ["d"]),
        helper.make_node("DequantizeLinear", ["kernel", "kernel_scale", "zeros"], ["k"], axis=0),
        helper.make_node("Conv", ["d", "k"], ["c"], pads=[1, 1, 1, 1]),
    ]
    inputs = [_value("data", "batch", 3, side, side)]
    return _save(path, nodes, inputs, [_value("c", "batch", 4, side, side)], weights)


def tiny_batch_mixer(path: Path) -> Path:
    """Folds its batch into the rows of its only output."""
    shape = numpy_helper.from_array(np.array([1, -1, 3], np.int64), "shape")
    nodes = [helper.make_node("Reshape", ["x", "shape"], ["y"])]
    return _save(path, nodes, [_value("x", 1, 6)], [_value("y", 1, 2, 3)], [shape])


def tiny_unsupported(path: Path) -> Path:
    """Has an operator that no engine knows, from a domain of its own."""
    nodes = [helper.make_node("Frobnicate", ["x"], ["y"], name="strange", domain="example.org")]
    return _save(path, nodes, [_value("x", 1, 6)], [_value("y", 1, 6)], [])


def _value(name: str, *shape: int | str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def _save(
    path: Path,
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    weights: list[onnx.TensorProto],
) -> Path:
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, weights)
    opsets = [helper.make_opsetid("", 13), helper.make_opsetid("example.org", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), str(path))
    return path
