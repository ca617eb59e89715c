"""Exponential moving average of a network's weights."""

from __future__ import annotations

import copy
from typing import Generic, TypeVar

import torch
from torch import nn

Network = TypeVar("Network", bound=nn.Module)


class Average(Generic[Network]):
    """Exponential moving average of a network's weights and statistics.

    Args:
        network: what to follow.
        decay: share of the old value kept per step; smaller in the first steps.
    """

    def __init__(self, network: Network, decay: float):
        self.network: Network = copy.deepcopy(network).eval().requires_grad_(requires_grad=False)
        self.decay = decay

    @torch.no_grad()
    def update(self, network: Network, step: int) -> None:
        """Move towards the network's present weights."""
        keep = min(self.decay, (1 + step) / (10 + step)) if self.decay else 0.0
        theirs = network.state_dict()
        for name, mine in self.network.state_dict().items():
            if mine.dtype.is_floating_point:
                mine.lerp_(theirs[name], 1 - keep)
            else:
                mine.copy_(theirs[name])
