"""Figures of restored faces: pixels, distributions of features, domains."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.floating]

SSIM_SIGMA = 1.5
SSIM_WINDOW = 11
SSIM_C1, SSIM_C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
"""Constants of Wang et al. 2004 for 0-255."""

RIDGE = 1e-3


def psnr(made: Bytes, good: Bytes) -> float:
    """Peak signal to noise ratio, dB, mean over pictures (N,H,W,3); equal pictures are infinite."""
    error = np.square(made.astype(np.float64) - good.astype(np.float64)).mean(axis=(1, 2, 3))
    with np.errstate(divide="ignore"):
        return float((10 * np.log10(255**2 / error)).mean())


def ssim(made: Bytes, good: Bytes) -> float:
    """Structural similarity of brightness, mean over pictures (N,H,W,3); 1 for equal ones."""
    return float(np.mean([_ssim(a, b) for a, b in zip(made, good, strict=True)]))


def _ssim(made: Bytes, good: Bytes) -> float:
    a, b = (cv2.cvtColor(x, cv2.COLOR_RGB2GRAY).astype(np.float64) for x in (made, good))

    def mean(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        window = (SSIM_WINDOW, SSIM_WINDOW)
        return np.asarray(cv2.GaussianBlur(x, window, SSIM_SIGMA), dtype=np.float64)

    of_a, of_b = mean(a), mean(b)
    vary_a, vary_b = mean(a * a) - of_a**2, mean(b * b) - of_b**2
    together = mean(a * b) - of_a * of_b
    above = (2 * of_a * of_b + SSIM_C1) * (2 * together + SSIM_C2)
    below = (of_a**2 + of_b**2 + SSIM_C1) * (vary_a + vary_b + SSIM_C2)
    return float((above / below).mean())


def frechet_distance(first: Floats, second: Floats) -> float:
    """Frechet distance of two clouds of features as if they were normal; 0 for equal ones.

    Of an embedder's features, this is not FID, which is of Inception's. It falls with the number of
    features, so that only figures of as many may be compared.

    Args:
        first: (N,d).
        second: (M,d).
    """
    a, b = first.astype(np.float64), second.astype(np.float64)
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    values, vectors = np.linalg.eigh(cov_a)
    root = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    cross = np.sqrt(np.clip(np.linalg.eigvalsh(root @ cov_b @ root), 0, None)).sum()
    apart = np.square(a.mean(axis=0) - b.mean(axis=0)).sum()
    return float(apart + np.trace(cov_a) + np.trace(cov_b) - 2 * cross)


def probe_accuracy(source: Floats, target: Floats, folds: int = 2) -> float:
    """How often a ridge regression names the domain of features it was not fitted to.

    Args:
        source: (N,d) of N faces in the source domain.
        target: (N,d) of the same faces in the target domain.
        folds: interleaved parts of the faces; a face is in one part in both domains.

    Returns:
        0.5 where the domains cannot be told apart, up to 1.
    """
    x = np.concatenate([source, target]).astype(np.float64)
    y = np.repeat([1.0, -1.0], len(source))
    part = np.tile(np.arange(len(source)) % folds, 2)
    x = (x - x.mean(axis=0)) / (x.std(axis=0) + 1e-9)
    right = np.empty(len(y), dtype=bool)
    for fold in range(folds):
        fit = part != fold
        gram = x[fit].T @ x[fit] + RIDGE * fit.sum() * np.eye(x.shape[1])
        weights = np.linalg.solve(gram, x[fit].T @ y[fit])
        right[~fit] = np.sign(x[~fit] @ weights) == y[~fit]
    return float(right.mean())
