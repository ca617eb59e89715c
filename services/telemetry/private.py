"""Keeps pictures and vectors out of what is written: their size is told instead."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from enum import Enum
from pathlib import PurePath

import numpy as np

_MANY_NUMBERS = 16  # a box, a pose or five points have fewer, every vector has more
_NUMBER = r"[-+]?\d[\d.eE+-]*"
_IN_TEXT = (
    (re.compile(r"""\bb(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")""", re.DOTALL), "<bytes withheld>"),
    (re.compile(r"\b(?:array|tensor)\((?:[^()]|\([^()]*\))*\)"), "<array withheld>"),
    (re.compile(rf"(?:{_NUMBER}[,\s]+){{{_MANY_NUMBERS - 1},}}{_NUMBER}"), "<numbers withheld>"),
    (re.compile(r"[A-Za-z0-9+/]{100,}={0,2}"), "<base64 withheld>"),
)


def withhold(value: object) -> object:
    """The value if it is plain; its kind and size where it may hold a picture or a vector.

    Args:
        value: anything that is about to be logged.
    """
    if value is None or isinstance(value, bool | int | float | date):
        return value
    if isinstance(value, Enum | PurePath | str):
        return _scrubbed(str(value))
    if isinstance(value, bytes | bytearray | memoryview):
        return f"<{len(value)} bytes withheld>"
    if isinstance(value, np.ndarray):
        return f"<array of {value.shape} withheld>"
    if isinstance(value, np.generic):
        return withhold(value.item())
    if isinstance(value, Mapping):
        return {str(key): withhold(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        numbers = all(isinstance(inner, int | float | np.number) for inner in value)
        if numbers and len(value) >= _MANY_NUMBERS:
            return f"<{len(value)} numbers withheld>"
        return [withhold(inner) for inner in value]
    if isinstance(value, BaseException):
        return f"{type(value).__name__}: {_scrubbed(str(value))}"
    return f"<{type(value).__name__} withheld>"


def _scrubbed(text: str) -> str:
    """Text without what an exception may quote: bytes, arrays, rows of numbers, base64."""
    for pattern, instead in _IN_TEXT:
        text = pattern.sub(instead, text)
    return text
