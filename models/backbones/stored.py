"""The numbers in an ONNX file, by the names under which its nodes use them."""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import torch
from google.protobuf.message import DecodeError
from onnx import numpy_helper
from torch import Tensor, nn

Arrays = dict[str, npt.NDArray[np.generic]]


def stored_arrays(graph: onnx.GraphProto) -> Arrays:
    """All stored tensors of a graph; those in half precision also by the names of their casts."""
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Cast" and node.input[0] in arrays:
            arrays[node.output[0]] = arrays[node.input[0]]
    return arrays


def read_stored(path: Path) -> Arrays:
    """The numbers in a file.

    Raises:
        ValueError: it holds no network.
    """
    try:
        return stored_arrays(onnx.load(str(path)).graph)
    except DecodeError as error:
        raise ValueError(f"{path.name} is no ONNX file") from error


def take_stored(network: nn.Module, stored: Arrays, prefix: str, own: Container[str] = ()) -> None:
    """Gives a network the numbers under its own names.

    Args:
        network: gets them.
        stored: of a file.
        prefix: what the file puts before each name and a point.
        own: layers that keep what they have.

    Raises:
        LookupError: the first name that is missing, or that is of another shape.
    """
    state = network.state_dict()
    for name, old in state.items():
        if name.rpartition(".")[0] in own:
            continue
        array = stored.get(f"{prefix}.{name}")
        if array is None or array.shape != tuple(old.shape):
            raise LookupError(name)
        state[name] = torch.from_numpy(array.astype(np.float32))
    network.load_state_dict(state)


@torch.no_grad()
def copy_rows(target: Tensor, values: npt.NDArray[np.generic]) -> None:
    """Copies a layer into the leading rows of `target`.

    Raises:
        ValueError: another axis differs, or there are more rows than `target` has.
    """
    if target.shape[1:] != values.shape[1:] or len(target) < len(values):
        raise ValueError(f"layer of shape {values.shape} does not fit {tuple(target.shape)}")
    target[: len(values)] = torch.from_numpy(values.astype(np.float32))
