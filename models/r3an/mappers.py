"""Maps of vectors to vectors as networks: linear, fully connected, residual, and several as one.

All take unit source vectors (B,d_S) and give target vectors (B,d_T) whose length is free.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from models.r3an import linear
from models.r3an.network import R3an, scaled

FC_HIDDEN = 1024
"""Hidden units of the deeper of the two fully connected baselines (spec, section 3)."""


FIRST_SHARE = 0.1
"""Of R3AN's path beside a linear one."""


class AffineMap(nn.Module):
    """A closed-form map as a layer.

    Args:
        affine: its numbers.
        learned: whether training may move them.
    """

    def __init__(self, affine: linear.Affine, *, learned: bool = False):
        super().__init__()
        d_s, d_t = affine.matrix.shape
        self.layer = nn.Linear(d_s, d_t)
        with torch.no_grad():
            self.layer.weight.copy_(torch.from_numpy(np.ascontiguousarray(affine.matrix.T)))
            self.layer.bias.copy_(torch.from_numpy(affine.offset))
        self.requires_grad_(learned)

    def forward(self, vectors: Tensor) -> Tensor:
        """(B,d_S) -> (B,d_T)."""
        made: Tensor = self.layer(vectors)
        return made


class FcMap(nn.Module):
    """The naive baseline: one layer, or a hidden one with batch norm and PReLU between two.

    Args:
        dimensions: of source and target.
        deep: whether there is a hidden layer.
    """

    def __init__(self, dimensions: tuple[int, int], *, deep: bool):
        super().__init__()
        d_s, d_t = dimensions
        layers: list[nn.Module] = [nn.Linear(d_s, d_t)]
        if deep:
            layers = [
                nn.Linear(d_s, FC_HIDDEN), nn.BatchNorm1d(FC_HIDDEN), nn.PReLU(),
                nn.Linear(FC_HIDDEN, d_t),
            ]  # fmt: skip
        self.body = nn.Sequential(*layers)

    def forward(self, vectors: Tensor) -> Tensor:
        """(B,d_S) -> (B,d_T)."""
        made: Tensor = self.body(scaled(vectors))
        return made


class ResidualMap(nn.Module):
    """A straight path that begins as a regression, and hidden layers beside it, at first nothing.

    Args:
        start: the straight path.
        dimensions: of source and target.
        hidden: width of each hidden layer.
        layers: hidden layers.
        dropout: share of hidden units left out in training.
    """

    def __init__(
        self,
        start: nn.Module,
        dimensions: tuple[int, int],
        hidden: int,
        layers: int,
        dropout: float,
    ):
        super().__init__()
        d_s, d_t = dimensions
        self.straight = start
        body: list[nn.Module] = []
        before = d_s
        for _ in range(layers):
            body += [
                nn.Linear(before, hidden), nn.BatchNorm1d(hidden), nn.PReLU(hidden),
                nn.Dropout(dropout),
            ]  # fmt: skip
            before = hidden
        self.body = nn.Sequential(*body)
        self.last = nn.Linear(before, d_t)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, vectors: Tensor) -> Tensor:
        """(B,d_S) -> (B,d_T)."""
        made: Tensor = self.straight(vectors) + self.last(self.body(scaled(vectors)))
        return made


class ResidualR3an(nn.Module):
    """R3AN beside a linear path, a learned share of each; both estimate the whole target vector.

    Args:
        start: the linear path's first numbers.
        path: the networks.
    """

    def __init__(self, start: linear.Affine, path: R3an):
        super().__init__()
        self.straight = AffineMap(start, learned=True)
        self.path = path
        self.share = nn.Parameter(torch.full((1,), FIRST_SHARE))

    def forward(self, vectors: Tensor) -> Tensor:
        """(B,d_S) -> (B,d_T)."""
        beside = self.path(vectors)
        return torch.lerp(self.straight(vectors), beside / math.sqrt(beside.shape[1]), self.share)


class Together(nn.Module):
    """Several maps as one: the mean of their unit vectors.

    Args:
        members: maps between the same two models.
    """

    def __init__(self, members: Sequence[nn.Module]):
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, vectors: Tensor) -> Tensor:
        """(B,d_S) -> (B,d_T); the longer, the better the members agree."""
        made = torch.stack([F.normalize(member(vectors)) for member in self.members])
        return made.mean(dim=0)


@torch.no_grad()
def mapped(network: nn.Module, vectors: np.ndarray, batch: int = 1024) -> np.ndarray:
    """(N,d_S) unit vectors -> (N,d_T) unit vectors, both float32, by a network in evaluation."""
    device = next(network.parameters()).device
    network.eval()
    parts = [
        F.normalize(network(torch.from_numpy(np.ascontiguousarray(block)).to(device))).cpu()
        for block in np.array_split(vectors, max(1, -(-len(vectors) // batch)))
    ]
    return np.asarray(torch.cat(parts).numpy())
