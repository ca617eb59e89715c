"""Writes networks as dlib's serialisation does: tiny ones, to be read back."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

MARK = b"\x01\x01"
_LAYER = b"\x01\x02"
_LOWEST = b"\x01\x03"


def whole(value: int) -> bytes:
    length = max(1, (abs(value).bit_length() + 7) // 8)
    sign = 0x80 if value < 0 else 0
    return bytes([sign | length]) + abs(value).to_bytes(length, "little")


def real(value: float) -> bytes:
    mantissa, exponent = math.frexp(value)
    return whole(int(mantissa * 2**24)) + whole(exponent - 24)


def text(value: str) -> bytes:
    return whole(len(value)) + value.encode()


def tensor(values: Array) -> bytes:
    sizes = list(values.shape) + [1] * (4 - values.ndim) if values.size else [0] * 4
    return whole(2) + b"".join(whole(size) for size in sizes) + values.astype("<f4").tobytes()


def alias(*sizes: int) -> bytes:
    return whole(1) + b"".join(whole(size) for size in sizes)


def convolution(kernel: Array, bias: Array, stride: int, padding: int) -> bytes:
    values = np.concatenate([kernel.ravel(), bias]).astype(np.float32)
    sizes = [kernel.shape[0], *kernel.shape[2:], stride, stride, padding, padding]
    return (
        text("con_4")
        + tensor(values)
        + b"".join(whole(size) for size in sizes)
        + alias(*kernel.shape)
        + alias(1, len(bias), 1, 1)
        + real(1.0) * 4
    )


def affine(gamma: Array, beta: Array) -> bytes:
    part = alias(1, len(gamma), 1, 1)
    values = tensor(np.concatenate([gamma, beta]).reshape(1, -1))
    return text("affine_") + values + part + part + whole(0)


def pooling(kind: str, window: int, stride: int) -> bytes:
    sizes = [window, window, stride, stride, 0, 0]
    return text(kind) + b"".join(whole(size) for size in sizes)


def dense(matrix: Array) -> bytes:
    inputs, outputs = matrix.shape
    return (
        text("fc_2")
        + whole(outputs)
        + whole(inputs)
        + tensor(matrix)
        + alias(inputs, outputs, 1, 1)
        + alias(0, 0, 0, 0)
        + whole(1)
        + real(1.0) * 4
    )


RELU = text("relu_")
ADD = text("add_prev_")


def network(
    layers: Sequence[bytes], side: int, means: Sequence[float] = (122.0, 117.0, 104.0)
) -> bytes:
    """A whole file, with the layers from the input up; `MARK` is a tag or a skip."""
    nothing = tensor(np.zeros(0, np.float32)) * 3
    versions = [MARK if layer == MARK else _LAYER for layer in layers]
    versions[0] = _LOWEST
    content = whole(1) + text("loss_metric_2") + real(0.04) + real(0.6)
    content += b"".join(reversed(versions)) + text("input_rgb_image_sized")
    content += b"".join(real(mean) for mean in means) + whole(side) * 2
    for index, layer in enumerate(layers):
        if layer == MARK:
            continue
        content += layer + b"110" + nothing
        if index == 0:
            content += whole(1)
    return content
