"""Warm start: Table 1's trunk learns a teacher's directions before the first GAN step.

The spec's way (a) and (b): 320 -> teacher's width by cosine distillation on the training crops;
then the trunk starts the discriminator, and the encoder too if that is Table 1's.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from models.backbones.trunk import channels_last
from models.drgan.batches import WarmBatches
from models.drgan.losses import keep_loss
from models.drgan.network import FEATURE_DIM, Discriminator, Encoded, Encoder
from models.drgan.options import TrainOptions
from models.training.loop import Run
from models.training.people import People
from models.training.precision import mixed

FIRST_LOGIT = 16.0
"""What the started discriminator's head gives the right person of a well-placed feature."""

Warmed = tuple[Tensor, Tensor]


class Student(nn.Module):
    """Table 1's encoder with a linear head towards the teacher's width.

    Args:
        dim: the teacher's width.
        width: factor on the encoder's channels.
    """

    def __init__(self, dim: int, width: float):
        super().__init__()
        self.encoder = Encoder(width)
        self.head = nn.Linear(FEATURE_DIM, dim, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        """(B,3,96,96) -> (B,dim)."""
        encoded: Encoded = self.encoder(images)
        out: Tensor = self.head(encoded.feature)
        return out


class WarmRun(Run[Warmed]):
    """The distillation.

    Args:
        options: of the whole training.
        people: with the teacher's directions.
        out: folder of this stage.
        console: where progress goes.
    """

    def __init__(
        self, options: TrainOptions, people: People, out: Path, console: Console | None = None
    ):
        if people.clean is None:
            raise ValueError("a warm start needs a teacher")
        super().__init__(
            "DR-GAN warm start",
            out,
            {"losses": ["step", "total", "images_per_s"]},
            people.faces.fingerprint,
            options.save_minutes,
            options.validate_steps,
            console,
        )
        self.options = options
        self.targets = people.clean
        torch.manual_seed(options.seed)
        student = Student(people.clean.shape[1], options.width)
        self.student = channels_last(student.to(self.device))
        self.optimiser = torch.optim.Adam(self.student.parameters(), lr=options.warm_lr)
        self.batches = WarmBatches(people.faces, people.split.train, options)
        self.steps = round(options.warm_epochs * self.batches.steps_per_epoch)

    @property
    def faces_per_step(self) -> int:
        """The batch."""
        return self.batches.batch

    def batches_between(self, first: int, last: int) -> Iterator[Warmed]:
        """Prepared ahead by threads."""
        return self.batches.iterate(first, last)

    def train_step(self, batch: Warmed) -> dict[str, float]:
        """One step of Adam with a rate that falls to zero."""
        images, rows = batch
        self.student.train()
        for group in self.optimiser.param_groups:
            group["lr"] = self.options.warm_lr * (1 - self.step / self.steps)
        with mixed(self.device, wanted=self.options.amp):
            features = self.student(images.to(self.device))
        loss = keep_loss(features, self.targets[rows].to(self.device))
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if self.check_finite(bool(torch.isfinite(loss))):
            self.optimiser.step()
        self.step += 1
        return {"step": self.step, "total": float(loss.detach())}

    def validate(self) -> None:
        """The loss says enough."""

    def state(self) -> dict[str, Any]:
        """Student and optimiser."""
        return {"student": self.student.state_dict(), "optimiser": self.optimiser.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        """Takes back what `state` gave."""
        self.student.load_state_dict(state["student"])
        self.optimiser.load_state_dict(state["optimiser"])


@torch.no_grad()
def start_discriminator(
    discriminator: Discriminator, student: Student, centres: Tensor, sample: Tensor
) -> None:
    """Gives the discriminator the student's trunk, and a head that knows the people already.

    Args:
        discriminator: of the same width.
        student: distilled.
        centres: (C,d) unit directions of the people in the teacher's space.
        sample: (B,3,96,96) training faces, to find the features' length.
    """
    theirs = student.encoder.trunk.state_dict()
    own = discriminator.state_dict()
    for name, value in theirs.items():
        parts = [f"trunk.{name}", *(f"branches.{k}.{name}" for k in range(3))]
        for part in parts:
            if part in own:
                own[part].copy_(value[:FEATURE_DIM] if value.ndim else value)
    student.eval()
    towards = student.head.weight  # (d,320)
    rows = centres.to(towards.device) @ towards
    if discriminator.variant == "tpami18":
        discriminator.centres.copy_(F.normalize(rows))
        return
    length = student(sample).float().norm(dim=1).mean()
    discriminator.head.weight[: len(rows)].copy_(rows * (FIRST_LOGIT / length))
