"""Counts less in a mapped vector what does not tell a person.

Along some directions of the target's space a mapped vector is far from another picture of its
person: the map cannot tell it, or the target model itself sees it differently each time. They hide
the person as much as the sure directions show who it is. If what differs is normally distributed,
the part of the log-likelihood ratio that hangs on both vectors is their inner product, weighed by
the inverse covariance of the difference (as in PLDA). The weights are put into the mapped vector
alone, so the target model's own templates and probes stay as they are.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from models.r3an.arrays import Floats, Ints
from models.r3an.mappers import mapped
from models.r3an.vectors import NOBODY, Pairs

SHRINK = 1.0
"""Of the covariance towards its mean variance in every direction, as a multiple of that.

A third found fewer held-out people, and three times as much was no better.
"""

LEAST_PAIRS = 500


class WeighedMap(nn.Module):
    """A map whose answers are weighed.

    Args:
        network: unit vectors (B,d_S) -> (B,d_T) of any length.
        weights: (d_T,d_T) symmetric.
    """

    def __init__(self, network: nn.Module, weights: Floats):
        super().__init__()
        self.network = network
        self.weights = nn.Buffer(torch.from_numpy(np.ascontiguousarray(weights, dtype=np.float32)))

    def forward(self, vectors: Tensor) -> Tensor:
        """(B,d_S) -> (B,d_T); as long as the network's own answer."""
        made = self.network(vectors)
        length = torch.linalg.vector_norm(made, dim=1, keepdim=True)
        answer: Tensor = length * F.normalize(made @ self.weights)
        return answer


def learn_weights(network: nn.Module, pairs: Pairs, shrink: float = SHRINK) -> Floats | None:
    """Inverse covariance of the difference to the target's vector of another picture of the person.

    Args:
        network: the map; it is left as it is.
        pairs: learns from the training rows with a person alone.
        shrink: as `SHRINK`.

    Returns:
        (d_T,d_T), symmetric, of mean eigenvalue 1; None where too few people have two faces.
    """
    probes, mates = _mates(pairs)
    if len(probes) < LEAST_PAIRS:
        return None
    apart = pairs.target[mates, 0] - mapped(network, pairs.source[probes, 0])
    covariance = apart.astype(np.float64).T @ apart / len(apart)
    size = len(covariance)
    weights = np.linalg.inv(covariance + shrink * np.trace(covariance) / size * np.eye(size))
    return np.asarray(weights * size / np.trace(weights), dtype=np.float32)


def _mates(pairs: Pairs) -> tuple[Ints, Ints]:
    """Each training face of somebody with several, and another of the same person's."""
    known = pairs.train[pairs.person[pairs.train] != NOBODY]
    rows = known[np.argsort(pairs.person[known], kind="stable")]
    begins = np.flatnonzero(np.diff(pairs.person[rows])) + 1
    groups = [group for group in np.split(rows, begins) if len(group) > 1]
    if not groups:
        return rows[:0], rows[:0]
    return np.concatenate(groups), np.concatenate([np.roll(group, 1) for group in groups])
