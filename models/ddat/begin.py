"""A generator that begins with the weights of an exported file, instead of by chance.

The exporter folds each batch norm into its convolution, so a file holds weights and a bias where
the network has weights and a norm. The norm is opened again by what the network sees: it gets the
mean and the spread of its input over some faces, and the factors that undo them. In evaluation the
generator then draws what the file draws; in training its norms begin with statistics that fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from models.backbones.stored import Arrays, read_stored, take_stored
from models.ddat.network import Generator

EXPORTED_AS = "generator"
"""Where an exported file holds a generator: its name in `Served`."""

FOLDED = "weight_bias"
"""How the exporter calls the bias that is left of a convolution's norm."""

BATCHES = 8
"""Batches of a run whose faces open the norms."""


def begin_with(generator: Generator, path: Path, images: Sequence[Tensor]) -> None:
    """Gives a generator the weights of an exported file.

    Args:
        generator: of the file's width; left in training mode.
        path: the file.
        images: batches of what it is to be trained on, each (B,3,112,112) RGB -1 to 1.

    Raises:
        ValueError: the file holds no network, another one, or one of another width.
    """
    stored = read_stored(path)
    folded: Arrays = {}
    for layer, module in generator.named_modules():
        if not isinstance(module, nn.BatchNorm2d):
            continue
        bias = stored.get(f"{EXPORTED_AS}.{_before(layer)}.{FOLDED}")
        if bias is not None:
            folded[layer] = bias
    try:
        take_stored(generator, stored, EXPORTED_AS, folded)
    except LookupError as error:
        name = error.args[0]
        told = f"{path.name} is no generator of this width and norm: {name}"
        raise ValueError(told) from error
    _open_norms(generator, folded, images)
    generator.train()


def _before(norm: str) -> str:
    """The convolution in front of a norm: its neighbour in their sequence."""
    parent, _, place = norm.rpartition(".")
    return f"{parent}.{int(place) - 1}"


@torch.no_grad()
def _open_norms(generator: Generator, folded: Arrays, images: Sequence[Tensor]) -> None:
    """Sets each norm to leave its input as it is, plus the bias, at the statistics of `images`."""
    norms = {
        name: norm
        for name, norm in generator.named_modules()
        if isinstance(norm, nn.BatchNorm2d) and name in folded
    }
    sums = {name: torch.zeros(3, len(bias), dtype=torch.float64) for name, bias in folded.items()}
    hooks = []
    for name, norm in norms.items():
        bias = torch.from_numpy(folded[name].astype(np.float32))
        _set(norm, torch.zeros_like(bias), torch.ones_like(bias), bias)

        def count(_: nn.Module, given: tuple[Tensor], total: Tensor = sums[name]) -> None:
            x = given[0].double().transpose(0, 1).flatten(1)
            total += torch.stack([torch.full(x.shape[:1], x.shape[1]), x.sum(1), (x * x).sum(1)])

        hooks.append(norm.register_forward_pre_hook(count))
    generator.eval()
    for batch in images:
        generator(batch)
    for hook in hooks:
        hook.remove()
    for name, norm in norms.items():
        counted, total, squares = sums[name]
        mean = total / counted
        spread = (squares / counted - mean * mean).clamp(min=0)
        bias = torch.from_numpy(folded[name].astype(np.float32))
        _set(norm, mean.float(), spread.float(), bias)


def _set(norm: nn.BatchNorm2d, mean: Tensor, spread: Tensor, bias: Tensor) -> None:
    """Statistics, and the factors with which the norm gives its input plus `bias`."""
    state = norm.state_dict()
    state |= {"running_mean": mean, "running_var": spread}
    state |= {"weight": torch.sqrt(spread + norm.eps), "bias": mean + bias}
    norm.load_state_dict(state)
