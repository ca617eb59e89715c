"""Every map that is tried between two models, from a rotation to R3AN beside a linear path."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console
from torch import nn

from models.r3an import linear
from models.r3an.learning import LearningOptions, learn, pulled
from models.r3an.mappers import AffineMap, FcMap, ResidualMap, Together
from models.r3an.options import ARCHITECTURES, Profile, TrainOptions, profile_options
from models.r3an.train import Trainer
from models.r3an.vectors import Pairs
from models.training.checkpoint import load_checkpoint, save_atomically
from models.training.errors import TrainingError
from models.training.faces import Faces

Kind = Literal[
    "procrustes", "ridge", "low-rank", "fc", "fc-deep", "mlp", "mlp-three",
    "mlp-pulled", "r3an", "r3an-linear", "weighed", "centred", "weighed-centred",
]  # fmt: skip

PLAIN = LearningOptions()
"""The residual MLP that a careful engineer tries first."""

FC = LearningOptions(noise=0.0, dropout=0.0)

THREE = LearningOptions(members=3)
"""The same, three times: what chance made of each of them cancels out."""

PULLED = LearningOptions(pull=0.5, mix=0.5, members=3)
"""The three, towards each person's mean target. It was the best once, and does harm
(docs/decisions/0021); what else was tried there are options and not defaults.
"""

TITLES: dict[Kind, str] = {
    "procrustes": "orthogonal Procrustes",
    "ridge": "ridge regression with an intercept",
    "low-rank": "affine map of half the rank",
    "fc": "one fully connected layer (FC)",
    "fc-deep": "two fully connected layers (FC)",
    "mlp": "residual MLP beside a linear path",
    "mlp-three": "three residual MLPs beside linear paths",
    "mlp-pulled": "three residual MLPs, pulled towards each person's mean",
    "r3an": "R3AN",
    "r3an-linear": "R3AN beside a linear path",
    "weighed": "weighed by what tells a person",
    "centred": "moved away from its nearest strangers",
    "weighed-centred": "weighed by what tells a person and moved away from its nearest strangers",
}
WEIGHED: Kind = "weighed"
CENTRED: Kind = "centred"
BOTH: Kind = "weighed-centred"
FORMS: tuple[Kind, ...] = (WEIGHED, CENTRED, BOTH)
"""What is made of the best candidate."""

KINDS: tuple[Kind, ...] = tuple(kind for kind in TITLES if kind not in FORMS)
"""What can be asked for; the best of them is then tried in other forms."""

EARLIER: tuple[Kind, ...] = ("mlp-pulled",)
"""What maps were released of, and is made only when it is asked for."""

QUICK: tuple[Kind, ...] = ("ridge", "mlp")
"""What is tried before faces are embedded in many views: minutes of work, and little behind."""

LONG: tuple[Kind, ...] = ("r3an", "r3an-linear")
"""What takes hours on a CPU where all others together take minutes."""


@dataclass(frozen=True)
class Candidate:
    """A map that was tried.

    Attributes:
        kind: which.
        network: unit vectors to vectors, in evaluation mode on the CPU; None where it diverged.
        seconds_per_step: of its training; 0 in closed form.
        parameters: numbers in it.
        of: the candidate that this is a form of; None for one that is none.
    """

    kind: Kind
    network: nn.Module | None
    seconds_per_step: float
    parameters: int
    of: Kind | None = None

    @property
    def title(self) -> str:
        """What it is, in words."""
        own = TITLES[self.kind]
        return own if self.of is None else f"{TITLES[self.of]}, {own}"


@dataclass(frozen=True)
class Workshop:
    """What candidates are made from, and where.

    Attributes:
        pairs: vectors of both models.
        faces: their pictures, for R3AN.
        out: folder; finished candidates are kept and not made again.
        cache: folder of decoded faces.
        facts: of the two models, for records.
        profile: of R3AN's training.
        r3an: changes to it.
        mlp: changes to the MLPs' training.
        console: where progress goes.
    """

    pairs: Pairs
    faces: Faces
    out: Path
    cache: Path
    facts: dict[str, Any]
    profile: Profile
    r3an: dict[str, Any]
    mlp: dict[str, Any]
    console: Console

    def make(self, kind: Kind) -> Candidate:
        """Trains a candidate, or takes the one that is there.

        Raises:
            TrainingError: the folder holds a candidate of other models or data.
        """
        if kind in LONG:
            return self._r3an(kind)
        store = self.out / "candidates" / f"{kind}.pt"
        learned_from = {"fingerprint": self.faces.fingerprint, **self.pairs.facts()}
        mark = {**learned_from, **self.facts, **self._asked(kind)}
        network = self._blank(kind)
        if store.is_file():
            state = load_checkpoint(store)
            if state["mark"] != mark:
                raise TrainingError(f"{store} was made from other models, data or options")
            network.load_state_dict(state["network"])
            return _candidate(kind, network.eval(), state["seconds_per_step"])
        seconds = 0.0
        if kind.startswith(("mlp", "fc")):
            network, seconds = self._learned(kind, network)
        store.parent.mkdir(parents=True, exist_ok=True)
        kept = {"network": network.state_dict(), "mark": mark, "seconds_per_step": seconds}
        save_atomically(kept, store)
        return _candidate(kind, network.eval(), seconds)

    def options_of(self, kind: Kind) -> LearningOptions:
        """How a learned map of vectors is trained here."""
        base = {"mlp": PLAIN, "mlp-three": THREE, "mlp-pulled": PULLED}.get(kind, FC)
        return LearningOptions.model_validate({**base.model_dump(), **self.mlp})

    def _asked(self, kind: Kind) -> dict[str, Any]:
        return self.options_of(kind).model_dump() if kind.startswith(("mlp", "fc")) else {}

    def _blank(self, kind: Kind) -> nn.Module:
        """A candidate before training; a closed-form one is finished with this."""
        pairs = self.pairs
        source, target, who = pairs.learned()
        if kind in ("fc", "fc-deep"):
            torch.manual_seed(self.options_of(kind).seed)
            return FcMap(pairs.dimensions, deep=kind == "fc-deep")
        if kind == "procrustes":
            return AffineMap(linear.procrustes(source, target))
        if kind == "low-rank":
            return AffineMap(linear.low_rank(source, target, max(1, min(pairs.dimensions) // 2)))
        if kind == "ridge":
            return AffineMap(linear.ridge(source, target))
        o = self.options_of(kind)
        start = linear.ridge(source, pulled(target, who, o.pull))
        members = []
        for number in range(o.members):
            torch.manual_seed(o.seed + number)
            straight = AffineMap(start, learned=True)
            dimensions = pairs.dimensions
            members.append(ResidualMap(straight, dimensions, o.hidden, o.layers, o.dropout))
        return members[0] if len(members) == 1 else Together(members)

    def _learned(self, kind: Kind, network: nn.Module) -> tuple[nn.Module, float]:
        o = self.options_of(kind)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        members = list(network.members) if isinstance(network, Together) else [network]
        made, seconds = [], 0.0
        for number, member in enumerate(members):
            self.console.print(f"{kind}: {number + 1} of {len(members)}")
            own = o.model_copy(update={"seed": o.seed + number})
            trained, seconds = learn(member, self.pairs, own, device)
            made.append(trained)
        return (made[0] if len(made) == 1 else Together(made)), seconds

    def _r3an(self, kind: Kind) -> Candidate:
        options = self.r3an_options(kind)
        trainer = Trainer(
            options, self.pairs, self.faces, self.out / kind, self.cache, self.facts, self.console
        )
        trainer.run_to_end()
        if trainer.step < trainer.steps:
            return Candidate(kind, None, 0.0, count(trainer.mapper))
        return _candidate(kind, trainer.result().eval(), trainer.seconds_per_step)

    def r3an_options(self, kind: Kind) -> TrainOptions:
        """How R3AN is trained here."""
        changes = {**ARCHITECTURES["R3AN"], **self.r3an, "linear_path": kind == "r3an-linear"}
        return profile_options(self.profile, changes)


def _candidate(kind: Kind, network: nn.Module, seconds: float) -> Candidate:
    return Candidate(kind, network, seconds, count(network))


def count(network: nn.Module) -> int:
    """Numbers in a network."""
    return sum(parameter.numel() for parameter in network.parameters())
