"""Where a student begins: its dense layer fitted to the teacher's features in closed form."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from models.backbones.trunk import Trunk
from models.training.faces import Faces, Ints
from models.training.teacher import embed

FITTED_ON = 8192
"""Faces, drawn among the rows; sixteen for each of foamliu's 512 inputs."""

RIDGE = 1e-3
"""Of the mean squared input."""


class _Flat(nn.Module):
    """(B,3,112,112) -> (B,C*H*W), what the dense layer reads."""

    def __init__(self, trunk: Trunk):
        super().__init__()
        self.trunk = trunk

    def forward(self, images: Tensor) -> Tensor:
        return self.trunk.feature_map(images).flatten(1)


@torch.no_grad()
def fit_dense(
    trunk: Trunk, faces: Faces, rows: Ints, targets: Tensor, seed: int, own: float = 0.0
) -> float:
    """Ridge regression with intercept from the flat feature map to the targets.

    Without it the first steps would be spent on turning one feature space into another, at rates
    that suit neither the dense layer nor what lies before it. Regression gives up what the teacher
    does not explain, and some of that told people apart; the layer's own output, turned as a whole
    into the teacher's space, keeps all of it. A mean of the two is above both over all pairs.

    Args:
        trunk: its first `targets.shape[1]` output channels are changed; the others stay.
        faces: the data.
        rows: (N,) training rows.
        targets: (faces, d) unit directions.
        seed: of the draw.
        own: share of the turned layer, [0,1].

    Returns:
        Mean cosine between outputs and targets on the faces of the fit.
    """
    chosen = np.random.default_rng(seed).permutation(rows)[:FITTED_ON]
    chosen.sort()
    was_training = trunk.training
    flat = embed(_Flat(trunk).eval(), faces.crops[chosen]).double()
    trunk.train(was_training)
    wanted = targets[torch.from_numpy(chosen)].double()
    inputs = flat - flat.mean(dim=0)
    gram = inputs.T @ inputs
    gram.diagonal().add_(RIDGE * gram.diagonal().mean())
    weight = torch.linalg.solve(gram, inputs.T @ (wanted - wanted.mean(dim=0))).T
    bias = wanted.mean(dim=0) - weight @ flat.mean(dim=0)
    if own:
        turned, shift = _turned(trunk, flat, wanted)
        weight, bias = weight.lerp(turned, own), bias.lerp(shift, own)
    trunk.dense.weight[: len(weight)] = weight.to(trunk.dense.weight)
    trunk.dense.bias[: len(weight)] = bias.to(trunk.dense.bias)
    return float(nn.functional.cosine_similarity(flat @ weight.T + bias, wanted).mean())


def _turned(trunk: Trunk, flat: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """The dense layer as it is, turned towards the targets (Procrustes) and of their length.

    Returns:
        Weight (d,inputs) and bias (d,).
    """
    width = wanted.shape[1]
    weight, bias = (part[:width].double() for part in (trunk.dense.weight, trunk.dense.bias))
    output = flat @ weight.T + bias
    left, _, right = torch.linalg.svd(nn.functional.normalize(output).T @ wanted)
    turn = (left @ right) / output.norm(dim=1).mean()
    return turn.T @ weight, bias @ turn
