"""Reads dlib's binary serialisation: numbers, texts and tensors, one behind the other.

A whole number is a control byte (its low four bits say how many bytes follow, its high bit that the
number is negative) and these bytes, the lowest first. A real number is two whole ones, mantissa and
exponent of 2. A text is its length and its characters. A tensor is a version, four sizes (samples,
channels, rows, columns) and float32 values. There are no names: what follows is known from the
C++ type of what was written.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from models.conversion.errors import ConversionError

Tensor = NDArray[np.float32]

_NEGATIVE = 0x80
_LENGTH = 0x0F
_LONGEST = 8
_TENSOR_VERSION = 2
_ALIAS_VERSION = 1
_LARGEST_EXPONENT = 900
"""With a mantissa of 64 bits, all up to here are finite; dlib marks infinity and NaN by 32000."""


class DlibStream:
    """A place in the bytes of a file, which moves on with what is read.

    All methods raise ConversionError where the bytes cannot be what is asked for.

    Args:
        content: of the whole file.
        name: of the file, for messages.
    """

    def __init__(self, content: bytes, name: str) -> None:
        self._content = content
        self._name = name
        self._at = 0

    @property
    def exhausted(self) -> bool:
        """Whether all has been read."""
        return self._at == len(self._content)

    def fault(self, what: str) -> ConversionError:
        """An error that says where it is."""
        return ConversionError(f"{self._name} is damaged at byte {self._at}: {what}.")

    def whole(self) -> int:
        """A whole number."""
        control = self._take(1)[0]
        length = control & _LENGTH
        if not 1 <= length <= _LONGEST or control & ~(_NEGATIVE | _LENGTH):
            raise self.fault("no whole number")
        value = int.from_bytes(self._take(length), "little")
        return -value if control & _NEGATIVE else value

    def size(self) -> int:
        """A whole number that cannot be negative."""
        value = self.whole()
        if value < 0:
            raise self.fault("a negative size")
        return value

    def real(self) -> float:
        """A real number."""
        mantissa, exponent = self.whole(), self.whole()
        if abs(exponent) > _LARGEST_EXPONENT:
            raise self.fault("a number that is not finite")
        return math.ldexp(mantissa, exponent)

    def flag(self) -> bool:
        """A truth value, the character 1 or 0."""
        value = self._take(1)
        if value not in (b"0", b"1"):
            raise self.fault("no truth value")
        return value == b"1"

    def text(self) -> str:
        """A text."""
        try:
            return self._take(self.size()).decode("ascii")
        except UnicodeDecodeError as error:
            raise self.fault("no text") from error

    def tensor(self) -> Tensor:
        """A tensor: (samples,channels,rows,columns) float32, all finite."""
        self.expect(_TENSOR_VERSION, "tensor")
        shape = tuple(self.size() for _ in range(4))
        content = self._take(4 * math.prod(shape))
        values = np.frombuffer(content, "<f4").reshape(shape)
        if not np.isfinite(values).all():
            raise self.fault("weights that are not finite")
        return values

    def alias(self) -> tuple[int, ...]:
        """The shape of a part of a tensor: samples, channels, rows, columns."""
        self.expect(_ALIAS_VERSION, "part of a tensor")
        return tuple(self.size() for _ in range(4))

    def expect(self, version: int, what: str) -> None:
        """Reads a version, of which this reader knows one."""
        found = self.whole()
        if found != version:
            raise self.fault(f"version {found} of a {what}")

    def _take(self, count: int) -> bytes:
        if count > len(self._content) - self._at:
            raise self.fault("it ends too early")
        taken = self._content[self._at : self._at + count]
        self._at += count
        return taken
