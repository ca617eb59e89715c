"""Keras networks in HDF5 files, as ONNX: the layers that Inception-ResNet networks are made of.

The file says itself how its layers hang together (`model_config`); no architecture is assumed.
Kernels lie as rows, columns, in, out, and pictures as rows, columns, channels: both are turned into
ONNX's order. Batch normalisation is folded into the layer in front of it where that has no other
reader.
"""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from models.conversion.errors import ConversionError
from models.conversion.graph import INPUT, Graph

Weight = NDArray[np.float64]
Config = dict[str, Any]

_CHANNEL_AXES = (3, -1)
_SCALING = b"scaling"


@dataclass(frozen=True)
class KerasLayer:
    """One layer: its class, its own settings, and whose outputs it takes."""

    name: str
    kind: str
    config: Config
    inputs: tuple[str, ...]


@dataclass(frozen=True)
class Linear:
    """A convolution's or a dense layer's weights: kernel with outputs last, bias (out,)."""

    kernel: Weight
    bias: Weight

    def scaled(self, scale: Weight, shift: Weight) -> Linear:
        """The same layer with its outputs multiplied and shifted."""
        return replace(self, kernel=self.kernel * scale, bias=self.bias * scale + shift)


def to_onnx(source: Path) -> bytes:
    """The network of a Keras HDF5 file as an ONNX file's content.

    Raises:
        ConversionError: it is damaged, or has a layer that is not converted.
        OSError: it cannot be read.
    """
    try:
        with h5py.File(source, "r") as file:
            config = json.loads(file.attrs["model_config"])["config"]
            layers = [_layer(entry) for entry in config["layers"]]
            return _Keras(file["model_weights"], layers).convert(_only(config["output_layers"]))
    except OSError as error:
        raise ConversionError(f"{source.name} is no HDF5 file, or is damaged.") from error
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, RuntimeError) as error:
        raise ConversionError(
            f"{source.name} is damaged, or no Keras file of the kind that Mien converts: {error}"
        ) from error


def _layer(entry: Config) -> KerasLayer:
    nodes = entry["inbound_nodes"]
    if len(nodes) > 1:
        raise ConversionError(f"The layer {entry['name']} is used more than once.")
    inputs = tuple(reference[0] for reference in nodes[0]) if nodes else ()
    return KerasLayer(entry["name"], entry["class_name"], entry["config"], inputs)


def _only(outputs: list[list[Any]]) -> str:
    if len(outputs) != 1:
        raise ConversionError("The network has several outputs.")
    name: str = outputs[0][0]
    return name


class _Keras:
    """A network on its way into a graph."""

    def __init__(self, weights: h5py.Group, layers: list[KerasLayer]) -> None:
        self._weights = weights
        self._layers = layers
        readers = Counter(name for layer in layers for name in layer.inputs)
        known = {layer.name: layer for layer in layers}
        # Batch normalisations by the layer that takes them in.
        self._folded = {
            layer.inputs[0]: layer
            for layer in layers
            if layer.kind == "BatchNormalization"
            and readers[layer.inputs[0]] == 1
            and known[layer.inputs[0]].kind in ("Conv2D", "Dense")
            and known[layer.inputs[0]].config["activation"] == "linear"
        }
        first = layers[0]
        if first.kind != "InputLayer":
            raise ConversionError("The network does not begin with its input.")
        _, height, width, channels = first.config["batch_input_shape"]
        if channels != 3:
            raise ConversionError("The network does not take pictures of three channels.")
        self._graph = Graph("keras", height, width)
        self._made = {first.name: INPUT}
        self._dimension = 0

    def convert(self, output: str) -> bytes:
        """All layers; the output must be a vector."""
        writers: dict[str, Callable[[KerasLayer, list[str]], str]] = {
            "Conv2D": self._convolution,
            "Dense": self._dense,
            "BatchNormalization": self._normalisation,
            "Activation": self._activation,
            "Lambda": self._scaling,
            "Add": lambda _, inputs: self._sum(inputs),
            "Concatenate": self._joined,
            "MaxPooling2D": self._largest,
            "GlobalAveragePooling2D": self._mean,
            "Dropout": lambda _, inputs: inputs[0],
        }
        for layer in self._layers[1:]:
            writer = writers.get(layer.kind)
            if writer is None:
                raise ConversionError(f"Mien does not convert {layer.kind} ({layer.name}).")
            self._made[layer.name] = writer(layer, [self._made[name] for name in layer.inputs])
        if not self._dimension:
            raise ConversionError("The network has no dense layer that gives a vector.")
        return self._graph.finish(self._made[output], self._dimension)

    def _convolution(self, layer: KerasLayer, inputs: list[str]) -> str:
        config = layer.config
        _require(layer, data_format="channels_last", dilation_rate=[1, 1], groups=1)
        linear = self._linear(layer)
        kernel = linear.kernel.transpose(3, 2, 0, 1)
        rows, columns = config["strides"]
        pads = _pads(layer, kernel.shape[2], kernel.shape[3])
        made = self._graph.convolution(inputs[0], kernel, linear.bias, (rows, columns), pads)
        return self._activated(config["activation"], made)

    def _dense(self, layer: KerasLayer, inputs: list[str]) -> str:
        linear = self._linear(layer)
        self._dimension = linear.kernel.shape[1]
        made = self._graph.dense(inputs[0], linear.kernel, linear.bias)
        return self._activated(layer.config["activation"], made)

    def _normalisation(self, layer: KerasLayer, inputs: list[str]) -> str:
        if self._folded.get(layer.inputs[0]) is layer:
            return inputs[0]
        scale, shift = self._normal(layer)
        if list(layer.config["axis"]) != [_CHANNEL_AXES[0]]:
            raise ConversionError(f"{layer.name} normalises something else than channels.")
        by = self._graph.weight(scale.reshape(-1, 1, 1))
        plus = self._graph.weight(shift.reshape(-1, 1, 1))
        return self._graph.node("Add", [self._graph.node("Mul", [inputs[0], by]), plus])

    def _activation(self, layer: KerasLayer, inputs: list[str]) -> str:
        return self._activated(layer.config["activation"], inputs[0])

    def _scaling(self, layer: KerasLayer, inputs: list[str]) -> str:
        """The function is compiled Python and is not run: only its name and its argument count."""
        arguments = layer.config["arguments"]
        code = base64.b64decode(layer.config["function"][0])
        if set(arguments) != {"scale"} or _SCALING not in code:
            raise ConversionError(f"{layer.name} is a function that Mien does not know.")
        factor = self._graph.weight(np.array(arguments["scale"], np.float64))
        return self._graph.node("Mul", [inputs[0], factor])

    def _sum(self, inputs: list[str]) -> str:
        total = inputs[0]
        for one in inputs[1:]:
            total = self._graph.node("Add", [total, one])
        return total

    def _joined(self, layer: KerasLayer, inputs: list[str]) -> str:
        if layer.config["axis"] not in _CHANNEL_AXES:
            raise ConversionError(f"{layer.name} joins something else than channels.")
        return self._graph.node("Concat", inputs, axis=1)

    def _largest(self, layer: KerasLayer, inputs: list[str]) -> str:
        _require(layer, data_format="channels_last", padding="valid")
        window, strides = list(layer.config["pool_size"]), list(layer.config["strides"])
        return self._graph.node("MaxPool", inputs, kernel_shape=window, strides=strides)

    def _mean(self, layer: KerasLayer, inputs: list[str]) -> str:
        _require(layer, data_format="channels_last", keepdims=False)
        return self._graph.mean_of_channels(inputs[0])

    def _activated(self, activation: str, name: str) -> str:
        if activation == "linear":
            return name
        if activation != "relu":
            raise ConversionError(f"Mien does not convert the activation {activation}.")
        return self._graph.node("Relu", [name])

    def _linear(self, layer: KerasLayer) -> Linear:
        stored = self._stored(layer.name)
        kernel = stored["kernel"]
        linear = Linear(kernel, stored.get("bias", np.zeros(kernel.shape[-1])))
        folded = self._folded.get(layer.name)
        return linear if folded is None else linear.scaled(*self._normal(folded))

    def _normal(self, layer: KerasLayer) -> tuple[Weight, Weight]:
        """A batch normalisation as a factor and a summand for each channel."""
        stored = self._stored(layer.name)
        deviation = np.sqrt(stored["moving_variance"] + layer.config["epsilon"])
        scale = stored.get("gamma", np.ones_like(deviation)) / deviation
        return scale, stored.get("beta", np.zeros_like(scale)) - stored["moving_mean"] * scale

    def _stored(self, name: str) -> dict[str, Weight]:
        group = self._weights[name]
        stored = {}
        for path in group.attrs["weight_names"]:
            text = path.decode() if isinstance(path, bytes) else str(path)
            values = np.asarray(group[text], np.float64)
            if not np.isfinite(values).all():
                raise ConversionError(f"{name} has weights that are not finite.")
            stored[text.rsplit("/", 1)[-1].partition(":")[0]] = values
        return stored


def _require(layer: KerasLayer, **settings: object) -> None:
    for name, value in settings.items():
        if layer.config.get(name, value) != value:
            raise ConversionError(
                f"{layer.name} has {name} {layer.config[name]!r}, which Mien does not convert."
            )


def _pads(layer: KerasLayer, rows: int, columns: int) -> tuple[int, int, int, int]:
    """Zeros above, before, below and behind; Keras puts an odd one below and behind."""
    if layer.config["padding"] == "valid":
        return 0, 0, 0, 0
    _require(layer, padding="same", strides=[1, 1])
    return (rows - 1) // 2, (columns - 1) // 2, rows // 2, columns // 2
