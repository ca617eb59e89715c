"""Networks as ONNX files: any batch, weights in half precision if wanted, compared with torch."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

OPSET = 18
HALF_FROM = 1024
"""Tensors with fewer numbers stay fp32: they weigh nothing and are the most sensitive."""

Precision = Literal["fp32", "fp16"]


@dataclass(frozen=True)
class Exported:
    """A written file.

    Attributes:
        path: the file.
        size: bytes.
        sha256: of the file.
        least_cosine: smallest cosine to torch of any output of any sample.
        largest_difference: largest absolute difference of the raw outputs.
    """

    path: Path
    size: int
    sha256: str
    least_cosine: float
    largest_difference: float

    def __str__(self) -> str:
        return (
            f"{self.path}: {self.size / 1e6:.1f} MB, sha256 {self.sha256}\n"
            f"against torch: least cosine {self.least_cosine:.7f}, "
            f"largest difference {self.largest_difference:.2e}"
        )


def write_onnx(
    network: nn.Module,
    path: Path,
    inputs: Mapping[str, Tensor],
    outputs: Sequence[str],
    precision: Precision = "fp32",
) -> Exported:
    """Writes a network and compares the file with torch.

    Args:
        network: in evaluation mode; takes the inputs in order, gives the outputs in order.
        path: file to write.
        inputs: two samples or more of each, by name; the first axis is the batch.
        outputs: names.
        precision: of the stored weights.
    """
    network = network.eval()
    batch = torch.export.Dim("batch", min=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    program = torch.onnx.export(
        network,
        tuple(inputs.values()),
        dynamo=True,
        input_names=list(inputs),
        output_names=list(outputs),
        dynamic_shapes=tuple({0: batch} for _ in inputs),
        opset_version=OPSET,
        verbose=False,
    )
    if program is None:
        raise RuntimeError("torch gave no ONNX program")
    model = program.model_proto
    forget_origins(model)
    if precision == "fp16":
        halve_weights(model)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    cosine, difference = compare(network, path, inputs)
    data = path.read_bytes()
    return Exported(path, len(data), hashlib.sha256(data).hexdigest(), cosine, difference)


def forget_origins(model: onnx.ModelProto) -> None:
    """Takes out where in which source file each node came from: paths of whoever exported it."""
    graph = model.graph
    nodes = [node for function in model.functions for node in function.node]
    for part in (
        model, graph, *model.functions, *nodes, *graph.node, *graph.initializer,
        *graph.value_info, *graph.input, *graph.output,
    ):  # fmt: skip
        part.ClearField("metadata_props")
        part.ClearField("doc_string")


def halve_weights(model: onnx.ModelProto) -> None:
    """Store large weights as fp16 with a cast to fp32 in front of their users.

    Half the size; engines fold the casts when they load the file and compute as before.
    """
    graph = model.graph
    casts = []
    for tensor in graph.initializer:
        if tensor.data_type != TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(tensor)
        if values.size < HALF_FROM:
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}_fp16"))
        casts.append(helper.make_node("Cast", [f"{name}_fp16"], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def compare(network: nn.Module, path: Path, inputs: Mapping[str, Tensor]) -> tuple[float, float]:
    """Least cosine and largest difference between torch and the file."""
    quiet = onnxruntime.SessionOptions()
    quiet.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), quiet, providers=["CPUExecutionProvider"])
    with torch.no_grad():
        ours = network(*inputs.values())
    given = {name: tensor.numpy() for name, tensor in inputs.items()}
    cosines, differences = [], []
    for mine, theirs in zip(
        ours if isinstance(ours, tuple) else (ours,), session.run(None, given), strict=True
    ):
        a, b = mine.flatten(1).numpy(), np.asarray(theirs).reshape(len(theirs), -1)
        norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        cosines.append(float(((a * b).sum(axis=1) / norms).min()))
        differences.append(float(np.abs(a - b).max()))
    return min(cosines), max(differences)


def sample_pictures(faces: int, side: int) -> Tensor:
    """(N,3,side,side), 0-255: smooth random pictures, always the same."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(faces, 3, side // 8, side // 8, generator=generator) * 255
    return torch.nn.functional.interpolate(coarse, side, mode="bilinear")
