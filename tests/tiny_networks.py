"""Networks of a few kilobytes, for tests of everything around a network."""

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

SIDE = 16
YAW_BINS = (-30.0, 0.0, 30.0)
NOISE = 4
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


def fusion_head() -> NDArray[np.float32]:
    """What the network multiplies its means with for the fusion weight."""
    values = np.random.default_rng(1).standard_normal((3 * (SIDE // _POOL) ** 2, 1))
    return (values / 500).astype(np.float32)  # so that values up to 255 leave the sigmoid room


def expected_weights(batch: NDArray[np.float32]) -> NDArray[np.float32]:
    """The fusion weights that the network answers, computed without any engine: N x 1."""
    cells = SIDE // _POOL
    means = batch.reshape(len(batch), 3, cells, _POOL, cells, _POOL).mean(axis=(3, 5))
    answer: NDArray[np.float32] = 1 / (1 + np.exp(-means.reshape(len(batch), -1) @ fusion_head()))
    return answer


def write_network(
    path: Path,
    dimension: int = 8,
    *,
    batch: int | None = None,
    output: str = "embedding",
    weights: NDArray[np.float32] | None = None,
    fusion: str | None = None,
    fusion_first: bool = False,
) -> Path:
    """Writes an embedder that takes N x 3 x 16 x 16.

    Args:
        path: the ONNX file.
        dimension: length of its vectors.
        batch: the batch that the file fixes; None leaves it free.
        output: name of its output.
        weights: instead of `projection`.
        fusion: name of a second output, N x 1, with each crop's fusion weight.
        fusion_first: list it before the vectors.
    """
    matrix = projection(dimension) if weights is None else weights
    count = "n" if batch is None else batch
    outputs = [helper.make_tensor_value_info(output, TensorProto.FLOAT, [count, dimension])]
    initial, head = [numpy_helper.from_array(matrix, "matrix")], []
    if fusion is not None:
        outputs.append(helper.make_tensor_value_info(fusion, TensorProto.FLOAT, [count, 1]))
        initial.append(numpy_helper.from_array(fusion_head(), "head"))
        head = [
            helper.make_node("MatMul", ["flat", "head"], ["logit"]),
            helper.make_node("Sigmoid", ["logit"], [fusion]),
        ]
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
            *head,
        ],
        "tiny",
        [helper.make_tensor_value_info("data", TensorProto.FLOAT, [count, 3, SIDE, SIDE])],
        outputs[::-1] if fusion_first else outputs,
        initial,
    )
    return _save(graph, path)


def decoder_matrix(dimension: int) -> NDArray[np.float32]:
    """What the decoder multiplies vector, pose and noise, side by side, with."""
    rows = dimension + len(YAW_BINS) + NOISE
    values = np.random.default_rng(2).standard_normal((rows, 3 * SIDE * SIDE))
    values[:dimension] /= 1000  # vectors of pixel means are long; the pose must show too
    return values.astype(np.float32)


def expected_pictures(
    features: NDArray[np.float32], pose: int, noise: float = 0.0
) -> NDArray[np.uint8]:
    """What the decoder draws, computed without any engine: N x side x side x 3, RGB."""
    codes = np.zeros((len(features), len(YAW_BINS)), np.float32)
    codes[:, pose] = 1
    filled = np.full((len(features), NOISE), noise, np.float32)
    rows = np.concatenate([features, codes, filled], axis=1)
    drawn = np.tanh(rows @ decoder_matrix(features.shape[1])).reshape(-1, 3, SIDE, SIDE)
    pictures: NDArray[np.uint8] = np.rint((drawn + 1) * 127.5).astype(np.uint8)
    return pictures.transpose(0, 2, 3, 1)


def write_decoder(path: Path, dimension: int = 8) -> Path:
    """Writes a decoder of vectors that draws N x 3 x 16 x 16, -1 to 1."""
    matrix = decoder_matrix(dimension)
    shape = numpy_helper.from_array(np.array([-1, 3, SIDE, SIDE], np.int64), "shape")
    widths = {"embedding": dimension, "pose": len(YAW_BINS), "noise": NOISE}
    graph = helper.make_graph(
        [
            helper.make_node("Concat", [*widths], ["row"], axis=1),
            helper.make_node("MatMul", ["row", "matrix"], ["flat"]),
            helper.make_node("Reshape", ["flat", "shape"], ["drawn"]),
            helper.make_node("Tanh", ["drawn"], ["image"]),
        ],
        "tiny decoder",
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", width])
            for name, width in widths.items()
        ],
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, SIDE, SIDE])],
        [numpy_helper.from_array(matrix, "matrix"), shape],
    )
    return _save(graph, path)


def _save(graph: onnx.GraphProto, path: Path) -> Path:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path


def write_enhancer(path: Path, side: int = 112) -> Path:
    """Writes an enhancer that takes N x 3 x side x side and gives the negative of the picture."""
    shape: list[str | int | None] = ["n", 3, side, side]
    graph = helper.make_graph(
        [helper.make_node("Neg", ["image"], ["enhanced"])],
        "negative",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("enhanced", TensorProto.FLOAT, shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path)
    return path


def map_matrix(source: int, target: int) -> NDArray[np.float32]:
    """What the map multiplies its vectors with."""
    values = np.random.default_rng(source * 100 + target).standard_normal((source, target))
    return values.astype(np.float32)


def expected_mapped(
    vectors: NDArray[np.float32], target: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Vectors (N x target, of length 1) and confidences (N) of the map, without any engine."""
    made = vectors.astype(np.float64) @ map_matrix(vectors.shape[1], target)
    lengths = np.linalg.norm(made, axis=1)
    return (made / lengths[:, None]).astype(np.float32), np.tanh(lengths / 8).astype(np.float32)


def write_map(
    path: Path,
    source: int = 8,
    target: int = 10,
    *,
    face: bool = False,
    long: bool = False,
    dead: bool = False,
    sure: float = 1 / 8,
) -> Path:
    """Writes a map of N x source unit vectors to N x target ones, and a confidence.

    Args:
        path: the ONNX file.
        source: dimension.
        target: dimension.
        face: also give a picture, N x 3 x 4 x 4, as no map may.
        long: leave the vectors as long as they come.
        dead: give values that are not numbers.
        sure: what lengths are multiplied with; the confidence is the hyperbolic tangent.
    """
    matrix = map_matrix(source, target) * (np.float32(np.nan) if dead else np.float32(1))
    nodes = [
        helper.make_node("MatMul", ["vector", "matrix"], ["made"]),
        helper.make_node("ReduceL2", ["made"], ["length"], axes=[1], keepdims=1),
        helper.make_node("Identity", ["made"], ["mapped"])
        if long
        else helper.make_node("Div", ["made", "length"], ["mapped"]),
        helper.make_node("Mul", ["length", "share"], ["part"]),
        helper.make_node("Tanh", ["part"], ["confidence"])
        if sure < 1
        else helper.make_node("Identity", ["part"], ["confidence"]),
    ]
    initial = [
        numpy_helper.from_array(matrix, "matrix"),
        numpy_helper.from_array(np.array([sure], np.float32), "share"),
    ]
    outputs = [
        helper.make_tensor_value_info("mapped", TensorProto.FLOAT, ["n", target]),
        helper.make_tensor_value_info("confidence", TensorProto.FLOAT, ["n", 1]),
    ]
    if face:
        pixels = np.ones((target, 48), np.float32)
        shape = np.array([-1, 3, 4, 4], np.int64)
        initial += [
            numpy_helper.from_array(pixels, "pixels"),
            numpy_helper.from_array(shape, "shape"),
        ]
        nodes += [
            helper.make_node("MatMul", ["made", "pixels"], ["flat"]),
            helper.make_node("Reshape", ["flat", "shape"], ["image"]),
        ]
        outputs.append(helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, 4, 4]))
    graph = helper.make_graph(
        nodes,
        "tiny map",
        [helper.make_tensor_value_info("vector", TensorProto.FLOAT, ["n", source])],
        outputs,
        initial,
    )
    return _save(graph, path)
