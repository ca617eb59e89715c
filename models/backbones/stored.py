"""The numbers in an ONNX file, by the names under which its nodes use them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper


def stored_arrays(graph: onnx.GraphProto) -> dict[str, npt.NDArray[np.generic]]:
    """All stored tensors of a graph; those in half precision also by the names of their casts."""
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Cast" and node.input[0] in arrays:
            arrays[node.output[0]] = arrays[node.input[0]]
    return arrays
