"""Frees the batch of an ONNX file that was exported with a fixed one: batching servers need it."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.runtime import EngineOptions, TensorInfo
from services.runtime.onnxruntime_engine import OnnxRuntimeEngine

_CHECK_ROWS = 3
_TOLERANCE = 1e-3  # of the largest value: engines add up in another order for another batch
_SEED = 11


class GraphError(Exception):
    """A network cannot be brought into the form that is needed; the message says why."""


@dataclass(frozen=True)
class Graph:
    """The tensors of a network whose batch is free, batch included.

    Attributes:
        source: the one input.
        outputs: in the network's order.
    """

    source: TensorInfo
    outputs: tuple[TensorInfo, ...]


def write_batched(path: Path, target: Path, *, free_size: bool = False) -> Graph:
    """Writes a copy of a network that takes any number of rows.

    A file whose batch is free already is copied as it is. Otherwise the graph is rewritten: the
    batch of inputs and outputs becomes a name, and so does the fixed batch that a Reshape states.
    The result is run on three rows and must give what the original gives row by row.

    Args:
        path: ONNX file, one image tensor (N x channels x height x width) in.
        target: where the copy goes.
        free_size: free height and width too, as detectors need.

    Raises:
        GraphError: several inputs, a graph whose rows are not independent once the batch is free,
            or a file to be rewritten without the `onnx` package.
        EngineError: no network that ONNX Runtime can load.
    """
    engine = OnnxRuntimeEngine(path, EngineOptions(threads=1))
    try:
        inputs = engine.info.inputs
        if len(inputs) != 1 or len(inputs[0].shape) != 4:
            raise GraphError(f"{path.name} must have one input, N x channels x height x width.")
        shape = inputs[0].shape
        free = (0, 2, 3) if free_size else (0,)
        if all(shape[axis] == -1 for axis in free):
            shutil.copyfile(path, target)
            return Graph(inputs[0], engine.info.outputs)
        if -1 in shape[1:]:
            raise GraphError(f"{path.name} has a fixed batch and a free size; free the batch too.")
        _rewrite(path, target, free)
        return _checked(engine, shape, target, path.name)
    finally:
        engine.close()


def _rewrite(path: Path, target: Path, free: tuple[int, ...]) -> None:
    try:
        import onnx  # noqa: PLC0415 - an extra that only this needs
    except ImportError as error:
        raise GraphError(
            f"{path.name} has a fixed batch; freeing it needs onnx: pip install 'mien[train]'"
        ) from error
    model = onnx.load(path)
    graph = model.graph
    weights = {tensor.name for tensor in graph.initializer}
    for tensor in graph.input:
        if tensor.name not in weights:
            dims = tensor.type.tensor_type.shape.dim
            batch = dims[0].dim_value
            for axis in free:
                dims[axis].dim_param = ("batch", "", "height", "width")[axis]
    for tensor in graph.output:
        dims = tensor.type.tensor_type.shape.dim
        dims[0].dim_param = "batch"
        # With a free size, the number of places in an output is free too; its last axis is what
        # is said of each place.
        for axis in range(1, len(dims) - 1 if len(free) > 1 else 1):
            dims[axis].dim_param = f"{tensor.name}_{axis}"
    del graph.value_info[:]  # shapes of the old batch
    _free_reshapes(onnx, graph, batch)
    onnx.save(model, target)


def _free_reshapes(onnx: Any, graph: Any, batch: int) -> None:
    """Lets every Reshape that states the fixed batch take the batch of its input (0) instead."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            for attribute in node.attribute:
                if attribute.name == "value":
                    constants[node.output[0]] = attribute.t
    wanted = [node.input[1] for node in graph.node if node.op_type == "Reshape"]
    for name in {name for name in wanted if name in constants}:
        sizes = onnx.numpy_helper.to_array(constants[name]).copy()
        if sizes.size > 1 and sizes[0] == batch:
            sizes[0] = 0
            constants[name].CopyFrom(onnx.numpy_helper.from_array(sizes, constants[name].name))


def _checked(original: OnnxRuntimeEngine, shape: tuple[int, ...], target: Path, name: str) -> Graph:
    rows = np.random.default_rng(_SEED).uniform(0, 255, (_CHECK_ROWS * shape[0], *shape[1:]))
    batch = rows.astype(np.float32)
    source = original.info.inputs[0].name
    expected = original.infer({source: batch})  # a fixed batch is run part by part
    freed = OnnxRuntimeEngine(target, EngineOptions(threads=1))
    try:
        got = freed.infer({source: batch})
        for output, values in expected.items():
            if not _same(values, got[output]):
                raise GraphError(
                    f"The batch of {name} cannot be freed: its rows are not independent then."
                )
        return Graph(freed.info.inputs[0], freed.info.outputs)
    finally:
        freed.close()


def _same(expected: NDArray[np.float32], got: NDArray[np.float32]) -> bool:
    if expected.shape != got.shape:
        return False
    scale = max(1.0, float(np.abs(expected).max()))
    return bool(np.abs(expected - got).max() <= _TOLERANCE * scale)


def sizes_text(sizes: Iterable[int]) -> str:
    """Dimensions as configuration text has them."""
    return ", ".join(str(size) for size in sizes)
