"""Networks of a few kilobytes, for tests of everything around a network."""

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

SIDE = 16
_POOL = 4


def projection(dimension: int) -> NDArray[np.float32]:
    """What the network multiplies its 4 x 4 means of each colour with."""
    features = 3 * (SIDE // _POOL) ** 2
    values = np.random.default_rng(dimension).standard_normal((features, dimension))
    return values.astype(np.float32)


def expected(batch: NDArray[np.float32], dimension: int) -> NDArray[np.float32]:
    """What the network answers, computed without any engine."""
    cells = SIDE // _POOL
    means = batch.reshape(len(batch), 3, cells, _POOL, cells, _POOL).mean(axis=(3, 5))
    answer: NDArray[np.float32] = means.reshape(len(batch), -1) @ projection(dimension)
    return answer


def write_network(
    path: Path,
    dimension: int = 8,
    *,
    batch: int | None = None,
    output: str = "embedding",
    weights: NDArray[np.float32] | None = None,
) -> Path:
    """Writes an embedder that takes N x 3 x 16 x 16.

    Args:
        path: the ONNX file.
        dimension: length of its vectors.
        batch: the batch that the file fixes; None leaves it free.
        output: name of its output.
        weights: instead of `projection`.
    """
    matrix = projection(dimension) if weights is None else weights
    count = "n" if batch is None else batch
    graph = helper.make_graph(
        [
            helper.make_node(
                "AveragePool",
                ["data"],
                ["means"],
                kernel_shape=[_POOL, _POOL],
                strides=[_POOL, _POOL],
            ),
            helper.make_node("Flatten", ["means"], ["flat"]),
            helper.make_node("MatMul", ["flat", "matrix"], [output]),
        ],
        "tiny",
        [helper.make_tensor_value_info("data", TensorProto.FLOAT, [count, 3, SIDE, SIDE])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, [count, dimension])],
        [numpy_helper.from_array(matrix, "matrix")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path
