"""Linear maps in closed form: the baselines that every network has to beat."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]

BLOCK = 8192
"""Faces at a time in a kernel regression."""

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


@dataclass(frozen=True)
class Kernel:
    """y = k(x) A + b with k(x) = exp(sharpness (x . c - 1)) for landmarks c, all of unit length.

    Attributes:
        landmarks: (K,d_S) unit vectors, drawn as the source's spread is: of nobody.
        sharpness: of the kernel, which is a Gaussian in the angle.
        affine: from the K likenesses to the target.
    """

    landmarks: npt.NDArray[np.float32]
    sharpness: float
    affine: Affine

    def __call__(self, vectors: Floats) -> npt.NDArray[np.float64]:
        """(N,d_S) unit vectors -> (N,d_T), not of unit length."""
        return self.affine(likeness(vectors, self.landmarks, self.sharpness))


def likeness(
    vectors: Floats, landmarks: npt.NDArray[np.float32], sharpness: float
) -> npt.NDArray[np.float32]:
    """(N,d) and (K,d) unit vectors -> (N,K) kernel values, 0 to 1, float32."""
    near = np.exp(sharpness * (vectors.astype(np.float32) @ landmarks.T - 1))
    return np.asarray(near, dtype=np.float32)


def kernel_ridge(
    source: Floats, target: Floats, landmarks: int, sharpness: float, penalty: float, seed: int = 0
) -> Kernel:
    """Ridge regression on the likeness to made-up vectors (Nystroem's way).

    Real vectors as landmarks would put people's faces into the file.

    Args:
        source: (N,d_S) unit vectors.
        target: (N,d_T).
        landmarks: how many.
        sharpness: of the kernel.
        penalty: relative to the mean square of the likenesses.
        seed: of the landmarks.
    """
    middle = drawn_alike(source, landmarks, seed)
    count = len(middle) + 1
    gram, hits = np.zeros((count, count)), np.zeros((count, target.shape[1]))
    for start in range(0, len(source), BLOCK):
        near = likeness(source[start : start + BLOCK], middle, sharpness)
        near = np.pad(near, ((0, 0), (0, 1)), constant_values=1.0)
        gram += near.T @ near
        hits += near.T @ target[start : start + BLOCK].astype(np.float32)
    gram[np.diag_indices(count - 1)] += penalty * np.trace(gram) / count
    weights = np.linalg.solve(gram, hits)
    return Kernel(middle, sharpness, Affine(weights[:-1].astype(float), weights[-1].astype(float)))


def drawn_alike(vectors: Floats, count: int, seed: int) -> npt.NDArray[np.float32]:
    """(count,d) unit vectors of the same mean and covariance as (N,d) ones, and of nobody."""
    rng = np.random.default_rng(seed)
    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    values, axes = np.linalg.eigh(centred.T @ centred / len(vectors))
    spread = axes * np.sqrt(np.clip(values, 0, None))
    drawn = vectors.mean(axis=0) + rng.normal(size=(count, len(values))) @ spread.T
    unit = drawn / np.maximum(np.linalg.norm(drawn, axis=1, keepdims=True), 1e-12)
    return np.asarray(unit, dtype=np.float32)
