"""Moves mapped vectors away from their nearest strangers, so that fewer strangers match them.

What a map cannot tell from a source vector, it fills in with what such faces have in common. The
answer then lies near every face of that kind, and a gallery needs a threshold that its own people
do not reach. In search by nearest neighbours such vectors are known as hubs; localised centring
(Hara et al., AAAI 2015) takes from a similarity the mean similarity to the nearest neighbours. Here
a share of the mean of the nearest strangers is taken from the vector itself, so that nothing but
the vector has to be stored; a small network says where they are, so that no stranger's vector is
needed in service.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from models.r3an.arrays import Floats, Ints
from models.r3an.mappers import mapped
from models.r3an.network import scaled
from models.r3an.vectors import NOBODY, Pairs

SHARES = (0.3, 0.6, 0.9)
"""Of the strangers' mean; the calibration people choose, or that it be left alone."""

COHORT = 6000
NEAREST = 50
LEAST_COHORT = 4 * NEAREST
HIDDEN = 512
EPOCHS = 12.0
BATCH = 512
RATE = 2e-3
DECAY = 1e-2
BLOCK = 1024


class CentredMap(nn.Module):
    """A map, and where its answers' nearest strangers are.

    Args:
        network: unit vectors (B,d_S) -> (B,d_T) of any length.
        crowd: `scaled` answers (B,d_T) -> the mean of their nearest strangers, `scaled` alike.
        share: of that mean which is taken away.
    """

    def __init__(self, network: nn.Module, crowd: nn.Module, share: float):
        super().__init__()
        self.network, self.crowd, self.share = network, crowd, share

    def forward(self, vectors: Tensor) -> Tensor:
        """(B,d_S) -> (B,d_T); as much longer or shorter as the network's own answer."""
        made = self.network(vectors)
        length = torch.linalg.vector_norm(made, dim=1, keepdim=True)
        spread = made.shape[1] ** 0.5
        centred = F.normalize(made) - self.share / spread * self.crowd(scaled(made))
        answer: Tensor = length * centred
        return answer


def learn_crowd(network: nn.Module, pairs: Pairs, seed: int = 1) -> nn.Module | None:
    """Learns where the strangers nearest to a map's answers are: targets of training faces.

    Args:
        network: the map; it is left as it is.
        pairs: learns from the training rows alone, crops and mirror images.
        seed: of the strangers that are drawn, and of the training.

    Returns:
        `crowd` of `CentredMap`, in evaluation mode on the CPU; None where there are too few faces.
    """
    rng = np.random.default_rng(seed)
    cohort = rng.permutation(pairs.train)[:COHORT]
    if len(cohort) < LEAST_COHORT:
        return None
    views = min(2, pairs.source.shape[1])
    rows = np.tile(pairs.train, views)
    made = np.concatenate([mapped(network, pairs.source[pairs.train, v]) for v in range(views)])
    wanted = nearest_strangers(
        made, _who(pairs, rows), pairs.target[cohort, 0], _who(pairs, cohort), NEAREST
    )
    torch.manual_seed(seed)
    dimension = made.shape[1]
    crowd = nn.Sequential(
        nn.Linear(dimension, HIDDEN), nn.PReLU(HIDDEN), nn.Linear(HIDDEN, dimension)
    )
    given, answer = scaled(torch.from_numpy(made)), torch.from_numpy(wanted) * dimension**0.5
    batch = min(BATCH, len(given))
    steps = max(1, round(EPOCHS * len(given) / batch))
    optimiser = torch.optim.AdamW(crowd.parameters(), RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps)
    order = torch.empty(0, dtype=torch.long)
    for _ in range(steps):
        if len(order) < batch:
            order = torch.randperm(len(given))
        chosen, order = order[:batch], order[batch:]
        loss = F.mse_loss(crowd(given[chosen]), answer[chosen])
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimiser.step()
        schedule.step()
    return crowd.requires_grad_(requires_grad=False).eval()


def nearest_strangers(
    vectors: Floats, who: Ints, cohort: Floats, cohort_who: Ints, nearest: int
) -> Floats:
    """(N,d) mean of the cohort's vectors that are nearest to each vector and of somebody else.

    Args:
        vectors: (N,d) unit vectors.
        who: (N,) whom each shows.
        cohort: (M,d) unit vectors.
        cohort_who: (M,) likewise.
        nearest: how many, fewer than M.
    """
    found = np.empty_like(vectors)
    for start in range(0, len(vectors), BLOCK):
        part = slice(start, start + BLOCK)
        scores = vectors[part] @ cohort.T
        scores[who[part, None] == cohort_who[None]] = -2.0  # below any stranger
        places = np.argpartition(scores, -nearest, axis=1)[:, -nearest:]
        found[part] = cohort[places].mean(axis=1)
    return found


def _who(pairs: Pairs, rows: Ints) -> Ints:
    """Whom rows show; a face without a person is somebody of its own."""
    own: Ints = len(pairs.person) + rows
    return np.where(pairs.person[rows] == NOBODY, own, pairs.person[rows])
