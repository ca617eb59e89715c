"""Changes an ONNX graph before an engine reads it: other input shapes, half precision."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from services.runtime.engine import EngineError

_FREE = -1


def adapted_model(path: Path, shapes: Mapping[str, tuple[int, ...]], half: bool = False) -> bytes:
    """The network of a file, with other input shapes and, if asked for, in half precision.

    Args:
        path: ONNX file.
        shapes: shapes of the inputs by name; -1 is free.
        half: whether to compute in fp16. Inputs and outputs stay float32, and so do the operators
            that ONNX does not define, or ONNX Runtime does not trust, in fp16.

    Raises:
        EngineError: the `onnx` package is not installed, or it cannot read the file.
    """
    onnx = _package(path)
    try:
        model = onnx.load(str(path))
        _drop_initial_inputs(model)
        _free_shapes(model, shapes)
        if half:
            model = _halved(onnx, model)
        content: bytes = model.SerializeToString()
    except (
        onnx.checker.ValidationError,
        onnx.shape_inference.InferenceError,
        _decode_error(),
        OSError,
        ValueError,
    ) as error:
        raise EngineError(f"{path.name} cannot be adapted: {error}") from error
    return content


def _drop_initial_inputs(model: Any) -> None:
    """Takes weights out of the list of inputs, where old exporters put them as well."""
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    del model.graph.input[:]
    model.graph.input.extend(inputs)


def _free_shapes(model: Any, shapes: Mapping[str, tuple[int, ...]]) -> None:
    for value in model.graph.input:
        if value.name not in shapes:
            continue
        dims = value.type.tensor_type.shape.dim
        for index, (dim, size) in enumerate(zip(dims, shapes[value.name], strict=True)):
            if size == _FREE:
                # A free batch is one and the same for all inputs; other sizes are each their own.
                dim.dim_param = "batch" if index == 0 else f"{value.name}_{index}"
            else:
                dim.dim_value = size
    # What was noted of shapes further on held for the old inputs.
    del model.graph.value_info[:]
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")


def _halved(onnx: Any, model: Any) -> Any:
    for tensor in model.graph.initializer:
        if tensor.float_data:  # lists of numbers take the converter ten times as long as bytes
            array = onnx.numpy_helper.to_array(tensor)
            tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    converter = importlib.import_module("onnxruntime.transformers.float16")
    return converter.convert_float_to_float16(model, keep_io_types=True)


def _package(path: Path) -> Any:
    try:
        onnx = importlib.import_module("onnx")
        importlib.import_module("onnx.shape_inference")
    except ImportError as error:
        raise EngineError(
            f"{path.name} has to be adapted (free shapes, fp16), which needs the package onnx, "
            "and it is not installed."
        ) from error
    return onnx


def _decode_error() -> type[Exception]:
    message = importlib.import_module("google.protobuf.message")
    error: type[Exception] = message.DecodeError
    return error
