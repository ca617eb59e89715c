"""A network for OpenVINO in mixed precision, which is what "int8" means on a CPU here.

Dense layers, which hold most of an embedder's weights, compute in int8; convolutions in bf16; the
first layers in fp32, because an error there is carried through all that follow. How many those are
is found by trying: as few as the parity gate lets pass.
"""

from __future__ import annotations

import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import openvino
from numpy.typing import NDArray
from openvino import opset13 as ops

from services.runtime.engine import Arrays

_HEAVY = ("Convolution", "GroupConvolution", "MatMul")
_LEVELS = 256
_LARGEST = 127
_SHRINKS = np.linspace(0.3, 1.0, 29)
"""Candidates for a dense layer's input range, as shares of the range that was seen."""


def mixed_precision(
    path: Path, shapes: dict[str, openvino.PartialShape], sample: Sequence[Arrays], exact: int
) -> openvino.Model:
    """Reads a network and prepares it to be compiled with the hint bf16.

    Args:
        path: ONNX file.
        shapes: of its inputs.
        sample: batches that show the range of each dense layer's input.
        exact: first convolutions and dense layers that stay in fp32.

    Raises:
        RuntimeError: OpenVINO cannot read the file or run it on the sample.
    """
    model = openvino.convert_model(path)  # folds batch norms, so that marks stay where they are put
    model.reshape(shapes)
    heavy = [op for op in model.get_ordered_ops() if op.get_type_name() in _HEAVY]
    dense = [op for op in heavy[exact:] if _has_constant_weights(op)]
    for op, seen in zip(dense, _inputs_of(model, dense, sample), strict=True):
        _to_int8(op, *_best_range(seen))
    model.validate_nodes_and_infer_types()
    return _marked(model, heavy[:exact]) if exact else model


def _has_constant_weights(op: openvino.Node) -> bool:
    kinds = (op.get_type_name(), op.input_value(1).get_node().get_type_name())
    return kinds == ("MatMul", "Constant")


def _inputs_of(
    model: openvino.Model, layers: list[openvino.Node], sample: Sequence[Arrays]
) -> list[NDArray[np.float32]]:
    """What each layer is given on the sample, in fp32."""
    if not layers:
        return []
    part = openvino.Model([op.input_value(0) for op in layers], model.get_parameters(), "part")
    compiled = openvino.Core().compile_model(part, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    request = compiled.create_infer_request()
    seen: list[list[NDArray[np.float32]]] = [[] for _ in layers]
    for batch in sample:
        answer = request.infer(batch)
        for index, values in enumerate(seen):
            values.append(np.array(answer[index]).ravel())
    return [np.concatenate(values) for values in seen]


def _best_range(values: NDArray[np.float32]) -> tuple[float, float]:
    """The range whose 256 levels give the values with the least squared error; holds 0."""
    low, high = min(float(values.min()), 0.0), max(float(values.max()), 1e-6)
    best = (np.inf, low, high)
    for share in _SHRINKS:
        bottom, top = low * share, high * share
        step = (top - bottom) / (_LEVELS - 1)
        rounded = np.clip(np.round((values - bottom) / step), 0, _LEVELS - 1) * step + bottom
        best = min(best, (float(np.square(rounded - values).mean()), bottom, top))
    return best[1], best[2]


def _to_int8(layer: openvino.Node, low: float, high: float) -> None:
    """Rounds a dense layer's input to 256 levels and its weights to int8, one step per output."""
    weights = layer.input_value(1).get_node().data.astype(np.float32)
    across = 1 if layer.get_attributes()["transpose_b"] else 0
    steps = np.maximum(np.abs(weights).max(axis=across, keepdims=True) / _LARGEST, 1e-12)
    whole = ops.constant(np.round(weights / steps).astype(np.int8))
    restored = ops.multiply(
        ops.convert(whole, openvino.Type.f32), ops.constant(steps.astype(np.float32))
    )
    ends = [ops.constant(np.float32(end)) for end in (low, high, low, high)]
    rounded = ops.fake_quantize(layer.input_value(0), *ends, _LEVELS)
    layer.input(0).replace_source_output(rounded.output(0))
    layer.input(1).replace_source_output(restored.output(0))


def _marked(model: openvino.Model, exact: list[openvino.Node]) -> openvino.Model:
    """The model with everything up to the last of some layers marked as not to be rounded.

    OpenVINO knows the mark ("precise") only in its own file format, so the model goes through one.
    """
    last = exact[-1].get_friendly_name()
    names = set()
    for op in model.get_ordered_ops():
        names.add(op.get_friendly_name())
        if op.get_friendly_name() == last:
            break
    # What follows the last layer up to the next one is its bias and its activation.
    after = [user for port in exact[-1].outputs() for user in port.get_target_inputs()]
    while after:
        op = after.pop().get_node()
        if op.get_type_name() in (*_HEAVY, "Result", "FakeQuantize", "Reshape"):
            continue
        names.add(op.get_friendly_name())
        after += [user for port in op.outputs() for user in port.get_target_inputs()]
    with tempfile.TemporaryDirectory(prefix="mien-") as folder:
        graph, weights = Path(folder) / "model.xml", Path(folder) / "model.bin"
        openvino.serialize(model, graph, weights)
        tree = ET.parse(graph)  # noqa: S314 - OpenVINO's own file
        for layer in tree.getroot().iter("layer"):
            if layer.get("name") in names and layer.get("type") not in ("Const", "Parameter"):
                _mark(layer)
        tree.write(graph)
        return openvino.Core().read_model(graph.read_bytes(), weights.read_bytes())


def _mark(layer: ET.Element) -> None:
    info = layer.find("rt_info")
    if info is None:
        info = ET.Element("rt_info")
        data = layer.find("data")
        layer.insert(0 if data is None else list(layer).index(data) + 1, info)
    ET.SubElement(info, "attribute", {"name": "precise", "version": "0"})
