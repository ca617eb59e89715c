"""Source vectors as a map takes them: of length 1, whatever length their model gives them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.zoo.map_card import MapEnd

LENGTH_TOLERANCE = 1e-3
"""How far from 1 the length of a vector may be. One that was kept in half precision is off by up to
5e-4 (2 to the power of -11); one further off was never scaled to length 1, or is no vector."""

_MIN_LENGTH = 1e-6


class VectorError(ValueError):
    """A vector cannot be mapped.

    Attributes:
        row: which one.
        why: what is wrong with it, without a number of it.
    """

    def __init__(self, row: int, why: str) -> None:
        super().__init__(f"vector {row}: {why}")
        self.row = row
        self.why = why


def unit_source(vectors: NDArray[np.floating], source: MapEnd) -> NDArray[np.float32]:
    """Vectors of a map's source model, each of length 1.

    A model whose vectors have length 1 gives none of another length: such a one was damaged or made
    otherwise. Vectors of other models (dlib's) are scaled, as they were when the map was fitted.

    Args:
        vectors: (N,d_S), as the source model gives them.
        source: the map's source.

    Returns:
        (N,d_S) float32.

    Raises:
        VectorError: the first that has no direction or, of a model of unit vectors, another length.
    """
    # In float64, where the square of no float32 overflows.
    exact = vectors.astype(np.float64)
    lengths = np.linalg.norm(exact, axis=1)
    for wrong, why in (
        (~np.isfinite(lengths), "It must hold finite numbers only."),
        (lengths < _MIN_LENGTH, "It must not be zero."),
        (
            source.unit_length & (np.abs(lengths - 1) > LENGTH_TOLERANCE),
            f"It must have length 1, to {LENGTH_TOLERANCE:g}.",
        ),
    ):
        if wrong.any():
            raise VectorError(int(np.flatnonzero(wrong)[0]), why)
    units: NDArray[np.float32] = (exact / lengths[:, None]).astype(np.float32)
    return units
