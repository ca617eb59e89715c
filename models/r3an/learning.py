"""How a map of vectors learns: cosine to the target, contrast to other faces' targets, and aids."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from models.r3an.arrays import Floats, Ints, unit
from models.r3an.losses import contrast_loss, cosine_loss
from models.r3an.vectors import Pairs
from models.training.average import Average


class Learned(NamedTuple):
    """Training rows in all views.

    Attributes:
        given: (N,d_S) unit source vectors.
        wanted: (N,d_T) what the map is to give.
        targets: (N,d_T) the target model's own vectors.
        who: (N,) whom each shows.
    """

    given: Tensor
    wanted: Tensor
    targets: Tensor
    who: Tensor


class LearningOptions(BaseModel):
    """One map's network and training. Defaults are the plain residual MLP of the baselines."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    hidden: int = Field(768, ge=8, description="width of the hidden layers")
    layers: int = Field(2, ge=1, le=6, description="hidden layers")
    dropout: float = Field(0.3, ge=0, lt=1, description="of hidden units")
    noise: float = Field(0.02, ge=0, description="spread of input noise, length of the whole")
    epochs: float = Field(12.0, gt=0, description="passes over all views of all faces")
    batch: int = Field(512, ge=2, description="vectors per step")
    lr: float = Field(1e-3, gt=0, description="AdamW's at the beginning; falls as a cosine")
    weight_decay: float = Field(1e-4, ge=0, description="AdamW's")
    ema: float = Field(0.0, ge=0, lt=1, description="averaging of the weights; 0: none")
    mix: float = Field(0.0, ge=0, le=1, description="share of inputs mixed of two faces")
    contrast: float = Field(0.0, ge=0, description="weight of InfoNCE; 0: none")
    temperature: float = Field(0.07, gt=0, description="of InfoNCE")
    negatives: int = Field(2048, ge=0, description="other faces' targets in InfoNCE per step")
    pull: float = Field(
        0.0, ge=0, le=1, description="share of the person's mean target in each wanted vector"
    )
    members: int = Field(1, ge=1, le=8, description="maps of different chance, taken together")
    seed: int = Field(1, ge=0)


def learn(
    network: nn.Module,
    pairs: Pairs,
    options: LearningOptions,
    device: torch.device,
    progress: Callable[[float], None] = lambda _: None,
) -> tuple[nn.Module, float]:
    """Trains a map of vectors.

    Args:
        network: (B,d_S) -> (B,d_T); moved in place.
        pairs: learns from the training rows alone.
        options: how.
        device: where.
        progress: told the share that is done.

    Returns:
        The map to be used (averaged where that is asked for), in evaluation mode on the CPU, and
        seconds per step.
    """
    torch.manual_seed(options.seed)
    source, target, who = pairs.learned()
    data = Learned(
        torch.from_numpy(source).to(device),
        torch.from_numpy(pulled(target, who, options.pull)).to(device),
        torch.from_numpy(target).to(device),
        torch.from_numpy(who).to(device),
    )
    network.to(device).train()
    average = Average(network, options.ema) if options.ema else None
    moved = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(moved, options.lr, weight_decay=options.weight_decay)
    count = len(data.given)
    batch = min(options.batch, count)
    steps = max(1, round(options.epochs * (count // batch)))
    started = time.perf_counter()
    order = torch.empty(0, dtype=torch.long)
    for step in range(steps):
        if len(order) < batch:
            order = torch.randperm(count)
        rows, order = order[:batch].to(device), order[batch:]
        for group in optimiser.param_groups:
            group["lr"] = options.lr * 0.5 * (1 + math.cos(math.pi * step / steps))
        loss = loss_of(network, data, rows, options)
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        if bool(torch.isfinite(loss)):
            optimiser.step()
        if average is not None:
            average.update(network, step + 1)
        progress((step + 1) / steps)
    seconds = (time.perf_counter() - started) / steps
    made = network if average is None else average.network
    return made.cpu().eval(), seconds


def loss_of(network: nn.Module, data: Learned, rows: Tensor, options: LearningOptions) -> Tensor:
    """Cosine to what is wanted, and contrast to what other faces have."""
    x, y = data.given[rows], data.wanted[rows]
    if options.mix:
        x, y = mixed(x, y, options.mix)
    if options.noise:
        x = F.normalize(x + torch.randn_like(x) * options.noise / math.sqrt(x.shape[1]))
    made = F.normalize(network(x))
    loss = cosine_loss(made, y)
    if options.contrast:
        drawn = torch.randint(len(data.given), (options.negatives,), device=rows.device)
        others = torch.cat([rows, drawn])
        alike = data.who[rows][:, None] == data.who[others][None]
        loss = loss + options.contrast * contrast_loss(
            made, y, data.targets[others], alike, options.temperature
        )
    return loss


def mixed(given: Tensor, wanted: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """A share of the rows mixed with others, source and target alike, each of length 1 again.

    Args:
        given: (B,d_S) unit vectors.
        wanted: (B,d_T) unit vectors.
        share: of the rows, 0 to 1.
    """
    other = torch.randperm(len(given), device=given.device)
    part = 0.5 * torch.rand(len(given), 1, device=given.device)
    part = part * (torch.rand_like(part) < share)
    return (
        F.normalize(torch.lerp(given, given[other], part)),
        F.normalize(torch.lerp(wanted, wanted[other], part)),
    )


def pulled(targets: Floats, who: Ints, share: float) -> Floats:
    """Targets moved towards the mean target of their person: what they say beside it is noise.

    Args:
        targets: (N,d) unit vectors.
        who: (N,) whom each shows.
        share: of the mean, 0 to 1.
    """
    if not share:
        return targets
    _, place = np.unique(who, return_inverse=True)
    sums = np.zeros((place.max() + 1, targets.shape[1]))
    np.add.at(sums, place, targets)
    return unit((1 - share) * targets + share * unit(sums)[place])
