"""The paper's experiment: does a recogniser that learned drawn near infrared know real one better?

Closed-set identification of held-out people, whom no generator has seen: half of each person's
faces teach a linear head on the frozen embedder's features, the other half, turned to near
infrared, must be named. "Real" near infrared is simulated here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from models.evaluation.bootstrap import Interval, bootstrap_by_person
from models.evaluation.rates import FloatArray
from models.nir_cyclegan.report import Examination, Translators
from models.nir_cyclegan.simulated import DomainName
from models.training.faces import Ints
from models.training.gains import RESAMPLES
from models.training.held_out import embed

HEAD_STEPS = 150
HEAD_RATE = 0.02
HEAD_SCALE = 16.0
"""Of the cosines; the head is a classifier on directions, as the embedder's features are."""

PROBE_DOMAINS: tuple[DomainName, ...] = ("simulated", "formula")


@dataclass(frozen=True)
class Shares:
    """Whose faces teach and whose are to be named, as places in the held-out faces.

    Attributes:
        labels: (N,) number of each face's person, -1 for people with too few faces.
        taught: (T,) visible faces that teach.
        shots: (S,) of those, faces that teach in near infrared too.
        probes: (P,) faces to be named.
    """

    labels: Ints
    taught: Ints
    shots: Ints
    probes: Ints


def deal(people: npt.NDArray[np.str_], shots: int, least: int, seed: int) -> Shares:
    """Halves each person's faces by chance.

    Args:
        people: (N,) who each face shows.
        shots: faces per person that are known in near infrared.
        least: people with fewer faces are left out.
        seed: of the chance.

    Raises:
        ValueError: fewer than two people are left.
    """
    rng = np.random.default_rng(seed)
    labels = np.full(len(people), -1, dtype=np.int64)
    taught: list[int] = []
    infrared: list[int] = []
    probes: list[int] = []
    number = 0
    for person in np.unique(people):
        rows = rng.permutation(np.flatnonzero(people == person))
        if len(rows) < least:
            continue
        labels[rows] = number
        number += 1
        half = len(rows) // 2
        taught += rows[:half].tolist()
        infrared += rows[: min(shots, half)].tolist()
        probes += rows[half:].tolist()
    if number < 2:
        raise ValueError(f"{number} people with {least} faces are too few")
    return Shares(labels, *(np.array(part, dtype=np.int64) for part in (taught, infrared, probes)))


def train_head(features: Tensor, labels: Tensor, classes: int, seed: int) -> Tensor:
    """(C,d) unit directions of the classes, learned on (T,d) unit features."""
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(classes, features.shape[1], generator=generator).requires_grad_()
    optimiser = torch.optim.Adam([weights], HEAD_RATE)
    for _ in range(HEAD_STEPS):
        logits = HEAD_SCALE * features @ F.normalize(weights).T
        optimiser.zero_grad()
        torch.autograd.backward(F.cross_entropy(logits, labels))
        optimiser.step()
    return F.normalize(weights.detach())


class Experiment:
    """The held-out faces' features, shared by all variants.

    Args:
        examination: the held-out faces and the embedder.
        device: where the embedder is.
        shots: near-infrared faces per person in all trainings.
        least: faces of a person that takes part.
        seeds: so many splits and heads.
    """

    def __init__(
        self,
        examination: Examination,
        device: torch.device,
        shots: int = 1,
        least: int = 4,
        seeds: int = 3,
    ):
        self.examination, self.device = examination, device
        self.shares = [deal(examination.people, shots, least, seed) for seed in range(seeds)]
        self.infrared = {
            name: embed(examination.verifier, examination.faces_in(name), device)
            for name in PROBE_DOMAINS
        }

    def top1(
        self, translators: Translators | None, resamples: int = RESAMPLES
    ) -> dict[DomainName, Interval]:
        """How often the right person is named, by domain of the probes.

        Args:
            translators: their G draws what is added to the training; None adds nothing.
            resamples: of the intervals, which are over people; seeds are averaged.
        """
        drawn = None
        if translators is not None:
            pictures = translators.translate("vis2nir", self.examination.crops)
            drawn = embed(self.examination.verifier, pictures, self.device)
        heads = [self._head(shares, drawn, seed) for seed, shares in enumerate(self.shares)]
        return {name: self._named(name, heads, resamples) for name in PROBE_DOMAINS}

    def _head(self, shares: Shares, drawn: Tensor | None, seed: int) -> Tensor:
        parts = [
            (self.examination.good, shares.taught),
            (self.infrared["simulated"], shares.shots),
            *([(drawn, shares.taught)] if drawn is not None else []),
        ]
        rows = [torch.from_numpy(places) for _, places in parts]
        features = torch.cat([x[place] for (x, _), place in zip(parts, rows, strict=True)])
        labels = torch.from_numpy(shares.labels)[torch.cat(rows)]
        return train_head(features, labels, int(shares.labels.max()) + 1, seed)

    def _named(self, domain: DomainName, heads: Sequence[Tensor], resamples: int) -> Interval:
        right, people = [], []
        for head, shares in zip(heads, self.shares, strict=True):
            probes = self.infrared[domain][torch.from_numpy(shares.probes)]
            named = (probes @ head.T).argmax(dim=1).numpy()
            right.append(named == shares.labels[shares.probes])
            people.append(self.examination.people[shares.probes])
        hits, names = np.concatenate(right), np.concatenate(people)

        def mean(weights: FloatArray) -> float:
            return float(weights @ hits / weights.sum())

        return bootstrap_by_person(mean, names, names, resamples=resamples)[0]
