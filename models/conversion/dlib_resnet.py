"""dlib's face recognition network, as ONNX: 29 convolutions, residual blocks, a vector of 128.

The network is Davis King's `anet_type`, published with dlib's face recognition example. In a block,
the data are marked, sent through two convolutions and added to what was marked. A block that halves
the picture marks its result too, goes back to the first mark, averages 2 x 2 pixels there and adds
the second mark. The shapes of the two may differ: dlib fills up rows, columns and channels with
zeros.

It takes RGB pictures minus the means of its input layer, divided by 256: the card's part.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.conversion.dlib_layers import (
    AddMarked,
    Affine,
    Convolution,
    Dense,
    DlibNetwork,
    Layer,
    Mark,
    Pooling,
    Relu,
    read_network,
)
from models.conversion.errors import ConversionError
from models.conversion.graph import INPUT, Graph

Shape = tuple[int, int, int]
Maps = tuple[str, Shape]
"""A tensor's name, and its channels, rows and columns."""


def to_onnx(source: Path) -> bytes:
    """The network of a file of dlib's as an ONNX file's content.

    Raises:
        ConversionError: it is damaged, or is another kind of network.
        OSError: it cannot be read.
    """
    return build(read_network(source.read_bytes(), source.name))


def build(network: DlibNetwork) -> bytes:
    """A network as an ONNX file's content.

    Raises:
        ConversionError: its layers do not follow each other as in `anet_type`.
    """
    walk = _Walk(network)
    layers = network.layers
    at = 0
    while at < len(layers) - 1:
        at += walk.step(layers[at : at + 2])
    last = layers[-1] if layers else None
    if not isinstance(last, Dense) or walk.vector is None:
        raise ConversionError("The network does not end in a vector.")
    graph = walk.graph
    return graph.finish(graph.dense(walk.vector, last.matrix), last.matrix.shape[1])


class _Walk:
    """Goes through the layers from the input up, and writes each into the graph."""

    def __init__(self, network: DlibNetwork) -> None:
        self.graph = Graph("dlib-resnet", network.height, network.width)
        self.vector: str | None = None
        self._now: Maps = (INPUT, (3, network.height, network.width))
        self._marked: Maps | None = None
        self._before: Maps | None = None

    def step(self, ahead: Sequence[Layer]) -> int:
        """Writes the first of two layers, or both where they belong together; says how many."""
        layer, following = ahead
        if self.vector is not None:
            raise ConversionError("The network has two ends.")
        match layer:
            case Convolution():
                affine = following if isinstance(following, Affine) else None
                self._now = self._convolved(layer, affine)
                return 1 if affine is None else 2
            case Relu():
                name, shape = self._now
                self._now = self.graph.node("Relu", [name]), shape
            case Pooling(window=(0, 0)):
                self.vector = self.graph.mean_of_channels(self._now[0])
            case Pooling():
                self._now = self._pooled(layer)
            case Mark() if isinstance(following, Mark):
                if self._before is None:
                    raise ConversionError("The network goes back to where it has never been.")
                self._marked, self._now = self._now, self._before
                return 2
            case Mark():
                self._marked = self._before = self._now
            case AddMarked() if self._marked is not None:
                self._now = self._sum(self._now, self._marked)
                self._marked = self._before = None
            case _:
                raise ConversionError("The network's layers follow each other in no known way.")
        return 1

    def _convolved(self, layer: Convolution, affine: Affine | None) -> Maps:
        name, (channels, *size) = self._now
        filters, wanted = layer.kernel.shape[:2]
        if wanted != channels or (affine is not None and len(affine.gamma) != filters):
            raise ConversionError("The network's layers do not fit each other.")
        kernel = layer.kernel.astype(np.float64)
        bias = layer.bias.astype(np.float64)
        if affine is not None:
            kernel *= affine.gamma.reshape(-1, 1, 1, 1)
            bias = bias * affine.gamma + affine.beta
        made = self.graph.convolution(name, kernel, bias, layer.strides, layer.padding * 2)
        window = kernel.shape[2], kernel.shape[3]
        return made, (filters, *_shrunk(size, window, layer.strides, layer.padding))

    def _pooled(self, layer: Pooling) -> Maps:
        name, (channels, *size) = self._now
        if layer.padding != (0, 0) or not all(layer.strides):
            raise ConversionError("The network pools in a way that Mien does not convert.")
        made = self.graph.node(
            "MaxPool" if layer.largest else "AveragePool",
            [name],
            kernel_shape=list(layer.window),
            strides=list(layer.strides),
        )
        return made, (channels, *_shrunk(size, layer.window, layer.strides, (0, 0)))

    def _sum(self, one: Maps, other: Maps) -> Maps:
        largest: Shape = (
            max(one[1][0], other[1][0]),
            max(one[1][1], other[1][1]),
            max(one[1][2], other[1][2]),
        )
        filled = [self._filled(maps, largest) for maps in (one, other)]
        return self.graph.node("Add", filled), largest

    def _filled(self, maps: Maps, shape: Shape) -> str:
        name, own = maps
        if own == shape:
            return name
        ends = [largest - size for largest, size in zip(shape, own, strict=True)]
        pads: NDArray[np.int64] = np.array([0, 0, 0, 0, 0, *ends], np.int64)
        return self.graph.node("Pad", [name, self.graph.weight(pads)], mode="constant")


def _shrunk(
    size: Sequence[int], window: tuple[int, int], strides: tuple[int, int], padding: tuple[int, int]
) -> tuple[int, int]:
    """Rows and columns behind a window that moves over the picture."""
    rows, columns = (
        (side + 2 * border - reach) // stride + 1
        for side, reach, stride, border in zip(size, window, strides, padding, strict=True)
    )
    if min(rows, columns) < 1:
        raise ConversionError("The network's pictures become too small for its layers.")
    return rows, columns
