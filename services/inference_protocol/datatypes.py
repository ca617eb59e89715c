"""The protocol's datatypes: what each is in numpy, in bytes and in lists."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

AnyArray = NDArray[Any]

_LENGTH = struct.Struct("<I")  # before each BYTES element


class TensorDataError(ValueError):
    """Elements that do not fit their datatype or shape; the message says how."""


@dataclass(frozen=True)
class Datatype:
    """One datatype.

    Attributes:
        name: in the protocol.
        dtype: little-endian numpy type of its elements; object for BYTES.
        contents: the list of `InferTensorContents` that holds it; None if it travels raw only.
    """

    name: str
    dtype: np.dtype[Any]
    contents: str | None

    @property
    def is_bytes(self) -> bool:
        """Whether elements have a length of their own."""
        return self.name == "BYTES"


# BF16 is part of the protocol too, but numpy has no type for it, so no model here can take it.
DATATYPES = {
    name: Datatype(name, np.dtype(code), contents)
    for name, code, contents in (
        ("BOOL", "?", "bool_contents"),
        ("UINT8", "u1", "uint_contents"),
        ("UINT16", "<u2", "uint_contents"),
        ("UINT32", "<u4", "uint_contents"),
        ("UINT64", "<u8", "uint64_contents"),
        ("INT8", "i1", "int_contents"),
        ("INT16", "<i2", "int_contents"),
        ("INT32", "<i4", "int_contents"),
        ("INT64", "<i8", "int64_contents"),
        ("FP16", "<f2", None),
        ("FP32", "<f4", "fp32_contents"),
        ("FP64", "<f8", "fp64_contents"),
        ("BYTES", "O", "bytes_contents"),
    )
}

_KINDS_THAT_FIT = {"b": "b", "u": "ui", "i": "ui", "f": "uif"}  # numpy kinds, by datatype's kind


def from_raw(datatype: Datatype, shape: Sequence[int], raw: bytes | memoryview) -> AnyArray:
    """Reads elements from bytes.

    Args:
        datatype: of the elements.
        shape: all dimensions above 0.
        raw: little-endian, row-major, nothing between the elements.

    Returns:
        An array of that shape, aligned; read-only where it shares the bytes' memory.

    Raises:
        TensorDataError: more or fewer bytes than the shape needs.
    """
    count = math.prod(shape)
    if datatype.is_bytes:
        return _objects(_split(raw, count), shape)
    needed = count * datatype.dtype.itemsize
    if len(raw) != needed:
        raise TensorDataError(
            f"{datatype.name} of shape {_text(shape)} is {needed} bytes; {len(raw)} were given."
        )
    array = np.frombuffer(raw, datatype.dtype).reshape(shape)
    return array if array.flags.aligned else array.copy()


def to_raw(datatype: Datatype, array: AnyArray) -> bytes:
    """The elements of an array as bytes, as `from_raw` reads them."""
    if datatype.is_bytes:
        return b"".join(_LENGTH.pack(len(item)) + item for item in array.ravel().tolist())
    return np.ascontiguousarray(array, datatype.dtype).tobytes()


def from_list(datatype: Datatype, shape: Sequence[int], values: Sequence[Any]) -> AnyArray:
    """Reads elements from a list, flat or nested like the shape.

    Args:
        datatype: of the elements.
        shape: all dimensions above 0.
        values: numbers, booleans, or for BYTES text or bytes.

    Raises:
        TensorDataError: too many or too few elements, or one of another kind or out of range.
    """
    if datatype.is_bytes:
        return _objects([_as_bytes(value) for value in _flat(values)], shape)
    try:
        given = np.asarray(values)
        if given.dtype.kind == "f" and datatype.name == "UINT64":
            given = _large_integers(values)
    except (ValueError, OverflowError) as error:
        raise TensorDataError("The lists inside the data differ in length.") from error
    if given.size != math.prod(shape):
        raise TensorDataError(
            f"Shape {_text(shape)} has {math.prod(shape)} elements; {given.size} were given."
        )
    if given.dtype.kind not in _KINDS_THAT_FIT[datatype.dtype.kind]:
        raise TensorDataError(f"An element is not of the datatype {datatype.name}.")
    if datatype.dtype.kind in "ui":
        limits = np.iinfo(datatype.dtype)
        if int(given.min()) < limits.min or int(given.max()) > limits.max:
            raise TensorDataError(f"An element is out of the range of {datatype.name}.")
    with np.errstate(over="ignore"):  # a float that is too large becomes infinite, as in C
        return given.astype(datatype.dtype).reshape(shape)


def to_list(datatype: Datatype, array: AnyArray) -> list[Any]:
    """The elements of an array as a flat list; BYTES stay bytes."""
    flat: list[Any] = array.ravel().astype(datatype.dtype, copy=False).tolist()
    return flat


def _large_integers(values: Sequence[Any]) -> AnyArray:
    """What numpy takes for floats because some are beyond int64 and others are not."""
    given = np.asarray(values, object)
    if all(type(value) is int and value >= 0 for value in given.ravel()):
        return given.astype(np.uint64)
    return np.asarray(values)


def _split(raw: bytes | memoryview, count: int) -> list[bytes]:
    items: list[bytes] = []
    view, position = memoryview(raw), 0
    while position < len(view) and len(items) <= count:
        start = position + _LENGTH.size
        if start > len(view):
            break
        position = start + int(_LENGTH.unpack_from(view, start - _LENGTH.size)[0])
        items.append(bytes(view[start:position]))
    if position != len(view):
        raise TensorDataError("The BYTES elements do not end where the data ends.")
    return items


def _objects(items: list[bytes], shape: Sequence[int]) -> AnyArray:
    if len(items) != math.prod(shape):
        raise TensorDataError(
            f"Shape {_text(shape)} has {math.prod(shape)} elements; {len(items)} were given."
        )
    array = np.empty(len(items), object)
    array[:] = items
    return array.reshape(shape)


def is_plain(text: str) -> bool:
    """Whether text can be written as UTF-8, which half a surrogate pair cannot."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _flat(values: Sequence[Any]) -> list[Any]:
    waiting, flat = list(reversed(values)), []
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting.extend(reversed(value))
        else:
            flat.append(value)
    return flat


def _as_bytes(value: object) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, str) and is_plain(value):
        return value.encode()
    raise TensorDataError("An element is not of the datatype BYTES.")


def _text(shape: Sequence[int]) -> str:
    return " x ".join(str(size) for size in shape) or "()"
