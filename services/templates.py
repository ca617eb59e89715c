"""Templates: several pictures of one person as one vector, made alike by all who store or compare.

What is averaged depends on the model. DR-GAN learned its weights on features as the network gives
them (f = sum of w f(x) / sum of w; Tran et al., CVPR 2017), so those are averaged, and a long
feature counts for more than a short one. Other models learned directions only: their vectors are
averaged at unit length, each weighed by the quality of its picture. A model that is compared by
distance keeps the lengths of its vectors.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float32]

_CANCELLED = 1e-6
"""Length of a mean, as a share of what was averaged, below which its direction means nothing."""
_LEAST_QUALITY = 1.0  # as in the unified score itself, where no component counts as less than 1
_BEST_QUALITY = 100.0


def fuse(
    vectors: NDArray[np.floating], weights: Sequence[float], *, unit_length: bool = True
) -> Vector:
    """The weighted mean of the vectors of one person's pictures.

    Args:
        vectors: n x dimension, of one identity, n at least 1; for a model with learned weights as
            its network gives them, otherwise as they are compared.
        weights: one for each vector, 0 or more and not all 0; only their ratios matter.
        unit_length: scale the mean to unit length, as models that are compared by cosine need.

    Returns:
        The template: dimension float32.

    Raises:
        ValueError: the arguments are not as said, or the vectors cancel each other out, so that
            nothing is left that has a direction.
    """
    rows, shares = np.asarray(vectors, np.float64), np.asarray(weights, np.float64)
    if rows.ndim != 2 or len(rows) == 0:
        raise ValueError("A template needs at least one vector.")
    if shares.shape != (len(rows),):
        raise ValueError(f"There must be one weight for each of the {len(rows)} vectors.")
    if not np.isfinite(rows).all():
        raise ValueError("The vectors must be finite.")
    if not np.isfinite(shares).all() or (shares < 0).any():
        raise ValueError("The weights must be finite, and 0 or more.")
    if not shares.any():
        raise ValueError("The weights must not all be 0.")
    shares = shares / shares.max()  # so that their sum stays finite, whatever their size
    shares /= shares.sum()
    mean = shares @ rows
    if unit_length:
        length = float(np.linalg.norm(mean))
        if length <= _CANCELLED * float(shares @ np.linalg.norm(rows, axis=1)):
            raise ValueError("The vectors cancel each other out.")
        mean /= length
    template: Vector = mean.astype(np.float32)
    return template


def quality_weights(qualities: Sequence[float]) -> list[float]:
    """Weights for pictures of a model that does not weigh them itself.

    A picture counts by its unified quality: one of 80 as much as two of 40. None counts as less
    than one of quality 1, so that a set of nothing but poor pictures still has a template.

    Args:
        qualities: unified quality of each picture, 0 to 100.

    Returns:
        A weight for each, 0.01 to 1.

    Raises:
        ValueError: a quality is not between 0 and 100.
    """
    if not all(0.0 <= quality <= _BEST_QUALITY for quality in qualities):
        raise ValueError("Qualities are between 0 and 100.")
    return [max(quality, _LEAST_QUALITY) / _BEST_QUALITY for quality in qualities]
