"""Kinds of arrays, unit vectors, and chance that depends on a name alone."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


def draw(name: str, purpose: str) -> float:
    """A number in [0,1) that depends on the name and the purpose alone."""
    digest = hashlib.sha256(f"{purpose}\0{name}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def unit(vectors: npt.NDArray[np.floating]) -> Floats:
    """(...,d) each of length 1, float32."""
    lengths = np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
    made: Floats = (vectors / lengths).astype(np.float32)
    return made
