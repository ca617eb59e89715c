"""A network under construction as an ONNX graph, and its bytes, which depend on nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from models.conversion.errors import ConversionError

Weight = NDArray[np.floating]

INPUT = "image"
OUTPUT = "embedding"
OPSET = 13
IR_VERSION = 8
"""Both are fixed, as old as the graphs allow: newer `onnx` packages then write the same bytes."""


class Graph:
    """An embedder's graph: pictures (N,3,height,width) in, vectors (N,dimension) out.

    Args:
        name: of the graph.
        height: of the input, pixels.
        width: likewise.
    """

    def __init__(self, name: str, height: int, width: int) -> None:
        self._name = name
        self._input = _value(INPUT, ["batch", 3, height, width])
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []

    def weight(self, values: NDArray[Any]) -> str:
        """Stores an array, real numbers as float32, and gives its name."""
        name = f"w{len(self._weights)}"
        stored = values.astype("<f4" if values.dtype.kind == "f" else "<i8")
        self._weights.append(numpy_helper.from_array(np.ascontiguousarray(stored), name))
        return name

    def node(self, operator: str, inputs: list[str], **attributes: Any) -> str:
        """Adds an operator of one output and gives the output's name."""
        name = f"t{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, inputs, [name], **attributes))
        return name

    def convolution(
        self,
        image: str,
        kernel: Weight,
        bias: Weight,
        strides: tuple[int, int],
        pads: tuple[int, int, int, int],
    ) -> str:
        """Adds a convolution.

        Args:
            image: its input.
            kernel: (out,in,height,width).
            bias: (out,).
            strides: down and across.
            pads: rows above, columns before, rows below, columns behind.
        """
        inputs = [image, self.weight(kernel), self.weight(bias)]
        return self.node("Conv", inputs, strides=list(strides), pads=list(pads))

    def dense(self, vector: str, matrix: Weight, bias: Weight | None = None) -> str:
        """Adds a product with (in,out), and a sum with (out,)."""
        inputs = [vector, self.weight(matrix)]
        return self.node("Gemm", inputs if bias is None else [*inputs, self.weight(bias)])

    def mean_of_channels(self, image: str) -> str:
        """Averages each channel: (N,C,height,width) becomes (N,C)."""
        return self.node("Flatten", [self.node("GlobalAveragePool", [image])])

    def finish(self, vector: str, dimension: int) -> bytes:
        """The file's content.

        Args:
            vector: name of the tensor that is the answer.
            dimension: its numbers.

        Raises:
            ConversionError: the parts do not fit each other.
        """
        last = helper.make_node("Identity", [vector], [OUTPUT])
        output = _value(OUTPUT, ["batch", dimension])
        graph = helper.make_graph(
            [*self._nodes, last], self._name, [self._input], [output], self._weights
        )
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
        )
        try:
            onnx.checker.check_model(model, full_check=True)
        except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
            raise ConversionError("The file's layers do not fit each other.") from error
        content: bytes = model.SerializeToString(deterministic=True)
        return content


def _value(name: str, shape: list[str | int]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
