"""The layers of a residual network that dlib has written, in the order of the data.

dlib nests its networks: each layer writes a version, then all that lies below it, then itself. So
the file begins with the versions from the loss down to the input, and goes on with the layers from
the input up. A version says whether a layer of its own follows or a mere mark (dlib's tag and skip
layers, which have nothing to write).
"""

from __future__ import annotations

from dataclasses import dataclass

from models.conversion.dlib_stream import DlibStream, Tensor
from models.conversion.errors import ConversionError

_NETWORK_VERSION = 1
_MARK_VERSION = 1
_LAYER_VERSION = 2
_LOWEST_VERSION = 3
_DEEPEST = 10_000


@dataclass(frozen=True)
class Convolution:
    """Kernel (out,in,rows,columns), bias (out,), strides and zero padding, down and across."""

    kernel: Tensor
    bias: Tensor
    strides: tuple[int, int]
    padding: tuple[int, int]


@dataclass(frozen=True)
class Affine:
    """Scale and shift of each channel, both (channels,): batch normalisation that was folded."""

    gamma: Tensor
    beta: Tensor


@dataclass(frozen=True)
class Pooling:
    """Largest or mean value of a window; a window of 0 x 0 is the whole picture."""

    largest: bool
    window: tuple[int, int]
    strides: tuple[int, int]
    padding: tuple[int, int]


@dataclass(frozen=True)
class Dense:
    """Matrix (in,out); no bias."""

    matrix: Tensor


@dataclass(frozen=True)
class Relu:
    """Values below 0 become 0."""


@dataclass(frozen=True)
class AddMarked:
    """The sum with what was marked."""


@dataclass(frozen=True)
class Mark:
    """A tag, or a skip back to one."""


Layer = Convolution | Affine | Pooling | Dense | Relu | AddMarked | Mark


@dataclass(frozen=True)
class DlibNetwork:
    """What a file holds.

    Attributes:
        means: of red, green and blue, subtracted before the difference is divided by 256.
        height: of the input, pixels.
        width: likewise.
        layers: from the input to the vector.
    """

    means: tuple[float, float, float]
    height: int
    width: int
    layers: tuple[Layer, ...]


def read_network(content: bytes, name: str) -> DlibNetwork:
    """Reads the network of a file of dlib's.

    Args:
        content: of the file.
        name: of the file, for messages.

    Raises:
        ConversionError: it is damaged, or is no network of pictures learned by distances.
    """
    stream = DlibStream(content, name)
    stream.expect(_NETWORK_VERSION, "network")
    _named(stream, "loss_metric_2")
    stream.real()  # the margin and
    stream.real()  # the distance threshold of training
    versions = _versions(stream)
    _named(stream, "input_rgb_image_sized")
    means = (stream.real(), stream.real(), stream.real())
    height, width = stream.size(), stream.size()
    layers: list[Layer] = []
    for version in reversed(versions):
        if version == _MARK_VERSION:
            layers.append(Mark())
            continue
        layers.append(_layer(stream))
        _skip_training_state(stream)
        if version == _LOWEST_VERSION:
            stream.whole()  # pictures for each sample
    if not stream.exhausted:
        raise stream.fault("more follows than the network")
    return DlibNetwork(means, height, width, tuple(layers))


def _versions(stream: DlibStream) -> list[int]:
    """One for each layer, from the loss down."""
    versions: list[int] = []
    while _LOWEST_VERSION not in versions[-1:]:
        versions.append(stream.whole())
        known = versions[-1] in (_MARK_VERSION, _LAYER_VERSION, _LOWEST_VERSION)
        if not known or len(versions) > _DEEPEST:
            raise stream.fault("no version of a layer")
    return versions


def _layer(stream: DlibStream) -> Layer:
    kind = stream.text()
    if kind == "con_4":
        return _convolution(stream)
    if kind == "affine_":
        return _affine(stream)
    if kind in ("max_pool_2", "avg_pool_2"):
        sizes = [(stream.size(), stream.size()) for _ in range(3)]
        return Pooling(kind == "max_pool_2", *sizes)
    if kind == "fc_2":
        return _dense(stream)
    if kind == "relu_":
        return Relu()
    if kind == "add_prev_":
        return AddMarked()
    raise ConversionError(f"The network has a layer {kind!r}, which Mien does not convert.")


def _convolution(stream: DlibStream) -> Convolution:
    values = stream.tensor().ravel()
    filters, rows, columns = stream.size(), stream.size(), stream.size()
    strides = stream.size(), stream.size()
    padding = stream.size(), stream.size()
    shape, bias_shape = stream.alias(), stream.alias()
    _skip_rates(stream)
    count = len(values) - filters
    if (shape[0], *shape[2:]) != (filters, rows, columns) or bias_shape[1] != filters:
        raise stream.fault("sizes of a convolution that contradict each other")
    if count != filters * shape[1] * rows * columns or not all(strides):
        raise stream.fault("a convolution of another size than its weights")
    return Convolution(values[:count].reshape(shape), values[count:], strides, padding)


def _affine(stream: DlibStream) -> Affine:
    values = stream.tensor().ravel()
    gamma, beta = stream.alias(), stream.alias()
    stream.whole()  # whether it stands behind a convolution or a dense layer: its shape tells
    channels = gamma[1]
    if gamma != (1, channels, 1, 1) or beta != gamma or len(values) != 2 * channels:
        raise stream.fault("a scale and shift of another size than its weights")
    return Affine(values[:channels], values[channels:])


def _dense(stream: DlibStream) -> Dense:
    outputs, inputs = stream.size(), stream.size()
    values = stream.tensor()
    stream.alias()
    stream.alias()
    without_bias = stream.whole() == 1
    _skip_rates(stream)
    if not without_bias or values.size != inputs * outputs:
        raise stream.fault("a dense layer with a bias, or of another size than its weights")
    return Dense(values.reshape(inputs, outputs))


def _skip_rates(stream: DlibStream) -> None:
    """Learning rate and weight decay of weights and bias."""
    for _ in range(4):
        stream.real()


def _skip_training_state(stream: DlibStream) -> None:
    """Three truth values, and what a layer last saw and gave, empty in a cleaned network."""
    for _ in range(3):
        stream.flag()
    for _ in range(3):
        stream.tensor()


def _named(stream: DlibStream, name: str) -> None:
    found = stream.text()
    if found != name:
        raise ConversionError(f"The file has {found!r} where {name!r} was expected.")
