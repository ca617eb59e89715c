"""Linear maps in closed form: the baselines that every network has to beat."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]

RIDGE = 1e-3
"""Penalty, as a share of the mean variance of the source's coordinates."""


@dataclass(frozen=True)
class Affine:
    """y = x A + b.

    Attributes:
        matrix: (d_S,d_T) float64.
        offset: (d_T,).
    """

    matrix: npt.NDArray[np.float64]
    offset: npt.NDArray[np.float64]

    def __call__(self, vectors: Floats) -> npt.NDArray[np.float64]:
        """(N,d_S) -> (N,d_T), not of unit length."""
        return vectors.astype(np.float64) @ self.matrix + self.offset


def ridge(source: Floats, target: Floats, penalty: float = RIDGE) -> Affine:
    """Least squares with an intercept and a penalty on the slope.

    Args:
        source: (N,d_S).
        target: (N,d_T).
        penalty: 0 or more, relative to the source's mean variance.
    """
    x, y = source.astype(np.float64), target.astype(np.float64)
    x_mean, y_mean = x.mean(axis=0), y.mean(axis=0)
    x, y = x - x_mean, y - y_mean
    gram = x.T @ x
    gram += penalty * np.trace(gram) / len(gram) * np.eye(len(gram))
    matrix = np.linalg.solve(gram, x.T @ y)
    return Affine(matrix, y_mean - x_mean @ matrix)


def procrustes(source: Floats, target: Floats) -> Affine:
    """The rotation (or projection, if dimensions differ) that aligns best; no offset, no scale."""
    u, _, v = np.linalg.svd(
        source.astype(np.float64).T @ target.astype(np.float64), full_matrices=False
    )
    return Affine(u @ v, np.zeros(target.shape[1]))


def low_rank(source: Floats, target: Floats, rank: int, penalty: float = RIDGE) -> Affine:
    """The affine map of a given rank that fits best (reduced-rank regression).

    Args:
        source: (N,d_S).
        target: (N,d_T).
        rank: of the matrix, 1 to the smaller dimension.
        penalty: as of `ridge`.
    """
    full = ridge(source, target, penalty)
    centred = source.astype(np.float64) - source.mean(axis=0, dtype=np.float64)
    fitted = centred @ full.matrix
    _, vectors = np.linalg.eigh(fitted.T @ fitted)
    kept = vectors[:, -rank:]
    matrix = full.matrix @ kept @ kept.T
    x_mean = source.mean(axis=0, dtype=np.float64)
    return Affine(matrix, target.mean(axis=0, dtype=np.float64) - x_mean @ matrix)
