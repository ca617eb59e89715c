"""What every PoseFace backbone has in common: a feature map, one dense layer, one batch norm."""

from __future__ import annotations

from abc import abstractmethod
from typing import TypeVar

import torch
from torch import Tensor, nn

INPUT_SIDE = 112

Network = TypeVar("Network", bound=nn.Module)


class Trunk(nn.Module):
    """A convolutional part followed by a dense layer and a batch norm.

    Input (B,3,112,112), RGB, 0-255; each network brings it to its own range. Output (B,dim), not
    L2-normalised. A linear head behind it can be folded into the dense layer (`fold_linear`).
    """

    def __init__(self, dense: nn.Linear, dense_norm: nn.BatchNorm1d):
        super().__init__()
        self.dense = dense
        self.dense_norm: nn.Module = dense_norm

    @property
    def dim(self) -> int:
        """Width of the trunk feature."""
        return self.dense.out_features

    @abstractmethod
    def feature_map(self, images: Tensor) -> Tensor:
        """(B,3,112,112) RGB 0-255 -> (B,C,H,W), what the dense layer reads when flattened."""

    def stages(self) -> list[nn.Module]:
        """The convolutional part in order, in the pieces that can be frozen one after another."""
        return []

    def forward(self, images: Tensor) -> Tensor:
        """(B,3,112,112) RGB 0-255 -> (B,dim)."""
        out: Tensor = self.dense_norm(self.dense(self.feature_map(images).flatten(1)))
        return out

    @torch.no_grad()
    def fold(self) -> None:
        """Fold fixed batch norms into their neighbours: same output, statistics fixed for good."""
        if isinstance(self.dense_norm, nn.BatchNorm1d):
            scale, shift = affine_of(self.dense_norm)
            bias = self.dense.bias if self.dense.bias is not None else torch.zeros_like(shift)
            self.dense.weight.mul_(scale[:, None])
            self.dense.bias = nn.Parameter(bias * scale + shift)
            self.dense_norm = nn.Identity()

    @torch.no_grad()
    def fold_linear(self, weight: Tensor) -> None:
        """Put a bias-free linear map (d,dim) behind the trunk into its dense layer."""
        Trunk.fold(self)
        dense = nn.Linear(self.dense.in_features, len(weight))
        dense.weight.copy_(weight @ self.dense.weight)
        dense.bias.copy_(weight @ self.dense.bias)
        self.dense = dense


def affine_of(norm: nn.BatchNorm1d | nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Scale and shift (C,) that the norm applies when its statistics are fixed."""
    if norm.running_mean is None or norm.running_var is None:
        raise ValueError("a batch norm without running statistics cannot be folded")
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    return scale.detach().clone(), (norm.bias - norm.running_mean * scale).detach().clone()


def channels_last(network: Network) -> Network:
    """The same network with its convolution weights laid out for pictures stored as (B,H,W,C)."""
    for weight in network.parameters():
        if weight.ndim == 4:
            weight.data = weight.data.contiguous(memory_format=torch.channels_last)
    return network
