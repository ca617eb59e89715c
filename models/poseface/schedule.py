"""Parameter groups and learning rates over a run."""

from __future__ import annotations

import math

import torch
from torch import nn

from models.poseface.network import PoseFaceNet
from models.poseface.objective import Objective
from models.poseface.options import TrainOptions

STEP_SHARES = (0.5, 0.75, 0.9)


def freeze(network: PoseFaceNet, options: TrainOptions) -> None:
    """Take the first stages out of training."""
    for stage in network.trunk.stages()[: options.freeze_stages]:
        stage.requires_grad_(requires_grad=False)


def set_training(network: PoseFaceNet, options: TrainOptions) -> None:
    """Training mode; frozen batch norms and frozen stages keep their statistics."""
    network.train()
    stopped: list[nn.Module] = list(network.trunk.stages()[: options.freeze_stages])
    if options.norm == "frozen":
        stopped = [network]
    for part in stopped:
        for module in part.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.eval()


def build_optimiser(
    network: PoseFaceNet, objective: Objective, options: TrainOptions
) -> torch.optim.Optimizer:
    """AdamW or SGD with a rate per part; vectors (norms, PReLU, biases) do not decay."""
    dense = {id(p) for p in (*network.trunk.dense.parameters(),)}
    dense |= {id(p) for p in network.trunk.dense_norm.parameters()}
    trunk = [p for p in network.trunk.parameters() if p.requires_grad]
    heads = [*network.identity_head.parameters(), *network.pose_head.parameters()]
    parts = [
        (options.lr_backbone, [p for p in trunk if id(p) not in dense]),
        (options.lr_dense, [p for p in trunk if id(p) in dense]),
        (options.lr_heads, heads),
        (options.lr_classifier, list(objective.classifier.parameters())),
    ]
    groups = []
    for rate, params in parts:
        for decays in (True, False):
            chosen = [p for p in params if (p.ndim > 1) == decays]
            if chosen:
                decay = options.weight_decay if decays else 0.0
                groups.append(
                    {"params": chosen, "lr": rate, "base_lr": rate, "weight_decay": decay}
                )
    if options.optimiser == "sgd":
        return torch.optim.SGD(groups, momentum=options.momentum)
    return torch.optim.AdamW(groups)


def rate_factor(step: int, steps: int, options: TrainOptions) -> float:
    """Factor in [0,1] on every base rate at a step: a linear rise, then cosine or three drops."""
    rise = max(1, round(options.warmup * steps))
    if step < rise:
        return (step + 1) / rise
    share = step / steps
    if options.schedule == "steps":
        return float(0.1 ** sum(share >= edge for edge in STEP_SHARES))
    done = (step - rise) / max(1, steps - rise)
    return 0.5 * (1 + math.cos(math.pi * done))


def set_rates(optimiser: torch.optim.Optimizer, factor: float) -> None:
    """Scale every group's own base rate."""
    for group in optimiser.param_groups:
        group["lr"] = group["base_lr"] * factor
