"""How far a mapped vector can be trusted: its cosine to the target's own vector, predicted.

A small head reads the source vector, the mapped one and its length before scaling. It learns on the
training faces, which the map knows too well, so a straight line is fitted over its answers on held-
out people; both are part of the served network.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from models.evaluation.fusion import rank_correlation
from models.r3an.arrays import Floats
from models.r3an.network import scaled

HIDDEN = 64
EPOCHS = 6
LEAST_STEPS = 300
BATCH = 512
RATE = 2e-3
DECAY = 1e-3
BINS = 10
LEAST_SLOPE = 0.05
"""A calibration that turned the order of the answers round would be no calibration."""


class ServedMap(nn.Module):
    """What goes into the file: a map, and its confidence head.

    Args:
        network: unit vectors (B,d_S) -> (B,d_T) of any length.
        dimensions: of source and target.
    """

    def __init__(self, network: nn.Module, dimensions: tuple[int, int]):
        super().__init__()
        self.network = network
        self.head = nn.Sequential(
            nn.Linear(sum(dimensions) + 1, HIDDEN), nn.PReLU(), nn.Linear(HIDDEN, 1)
        )
        self.slope = nn.Buffer(torch.ones(1))
        self.offset = nn.Buffer(torch.zeros(1))

    def forward(self, vector: Tensor) -> tuple[Tensor, Tensor]:
        """(B,d_S) -> unit (B,d_T), and the predicted cosine (B,1), -1 to 1."""
        unit = F.normalize(vector)
        made = self.network(unit)
        predicted = self.raw_confidence(unit, made) * self.slope + self.offset
        return F.normalize(made), torch.clamp(predicted, -1.0, 1.0)

    def raw_confidence(self, unit: Tensor, made: Tensor) -> Tensor:
        """(B,1), before calibration."""
        length = torch.linalg.vector_norm(made, dim=1, keepdim=True) / math.sqrt(made.shape[1])
        seen = torch.cat([scaled(unit), scaled(made), torch.log(length + 1e-6)], dim=1)
        predicted: Tensor = self.head(seen)
        return predicted


@dataclass(frozen=True)
class Calibration:
    """How well predicted and real cosines agree on people that nothing was fitted to.

    Attributes:
        bins: (mean predicted, mean real, count), by ascending prediction, as many faces in each.
        gap: mean absolute difference of the two over the bins.
        rank_correlation: Spearman's, of single faces.
        faces: count.
    """

    bins: list[tuple[float, float, int]]
    gap: float
    rank_correlation: float
    faces: int


def learn_head(
    served: ServedMap,
    source: Floats,
    target: Floats,
    held_source: Floats,
    held_target: Floats,
    seed: int = 1,
) -> None:
    """Trains the head, then fits the line; the map itself does not move.

    Args:
        served: changed in place; left in evaluation mode.
        source: (N,d_S) unit vectors of training faces.
        target: (N,d_T) the target's own.
        held_source: (M,d_S) of held-out people.
        held_target: (M,d_T) likewise.
        seed: of the batches.
    """
    torch.manual_seed(seed)
    served.eval()
    unit, made, wanted = _answers(served, source, target)
    optimiser = torch.optim.AdamW(served.head.parameters(), RATE, weight_decay=DECAY)
    for _ in range(max(EPOCHS, LEAST_STEPS * BATCH // len(unit))):
        for rows in torch.split(torch.randperm(len(unit)), BATCH):
            lost = F.smooth_l1_loss(
                served.raw_confidence(unit[rows], made[rows])[:, 0], wanted[rows], beta=0.1
            )
            optimiser.zero_grad(set_to_none=True)
            torch.autograd.backward(lost)
            optimiser.step()
    served.requires_grad_(requires_grad=False)
    unit, made, wanted = _answers(served, held_source, held_target)
    with torch.no_grad():
        predicted = served.raw_confidence(unit, made)[:, 0].double().numpy()
    centred = predicted - predicted.mean()
    real = wanted.double().numpy()
    spread = max(float((centred**2).sum()), 1e-12)
    slope = max(LEAST_SLOPE, float((centred * (real - real.mean())).sum()) / spread)
    served.slope.fill_(slope)
    served.offset.fill_(float(real.mean()) - slope * float(predicted.mean()))


@torch.no_grad()
def calibration_of(served: ServedMap, source: Floats, target: Floats) -> Calibration:
    """The head's answers beside the truth, on (N,d_S) and (N,d_T) of people nobody fitted to."""
    made, predicted = served(torch.from_numpy(source))
    real = (made * torch.from_numpy(target)).sum(dim=1).numpy()
    guess = predicted[:, 0].numpy()
    parts = np.array_split(np.argsort(guess, kind="stable"), BINS)
    bins = [
        (float(guess[part].mean()), float(real[part].mean()), len(part))
        for part in parts
        if len(part)
    ]
    gap = float(np.mean([abs(a - b) for a, b, _ in bins]))
    return Calibration(bins, gap, rank_correlation(guess, real), len(guess))


@torch.no_grad()
def _answers(served: ServedMap, source: Floats, target: Floats) -> tuple[Tensor, Tensor, Tensor]:
    """Unit sources, the map's raw answers, and their real cosines."""
    unit = F.normalize(torch.from_numpy(np.ascontiguousarray(source)))
    made = torch.cat([served.network(block) for block in torch.split(unit, 1024)])
    wanted = torch.from_numpy(np.ascontiguousarray(target))
    return unit, made, (F.normalize(made) * F.normalize(wanted)).sum(dim=1)
