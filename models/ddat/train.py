"""DDAT's training loop: `mien train ddat --data DIR --out DIR --start FILE`.

A run can be killed at any time: it saves every few minutes and on SIGTERM or SIGINT, and the same
command goes on from there, step for step as if it had not stopped.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from models.backbones.trunk import channels_last
from models.ddat.batches import Batch, Batches
from models.ddat.begin import BATCHES, begin_with
from models.ddat.domains import split_domains
from models.ddat.figures import FIGURES, QUICK_DOMAINS, QUICK_SIDES, measured_table
from models.ddat.game import Game
from models.ddat.network import BOTTLENECK_STEPS, Adaptor, Discriminator, Generator
from models.ddat.objective import Networks, stage_of
from models.ddat.options import TrainOptions
from models.ddat.report import Examination
from models.ddat.sheets import sheet_faces
from models.ddat.verifier import Verifier
from models.training.average import Average
from models.training.checkpoint import write_record
from models.training.curves import draw
from models.training.errors import TrainingError
from models.training.loop import Run
from models.training.people import People, load_people
from models.training.sheets import write_sheet
from models.training.teacher import class_centres
from models.zoo.fetch import file_sha256

LOSSES = [
    "total", "l1", "identity", "feature", "consistency", "consistency_target", "classification",
    "g_source", "g_target", "adaptor", "confusion", "v_class", "centre", "vat", "d_real",
    "d_source", "d_target", "r1", "adaptor_accuracy",
]  # fmt: skip
COLUMNS = ["step", "epoch", "rate", *LOSSES, "v_made", "lambda_a", "images_per_s"]
DRAWN = [
    "total", "l1", "identity", "feature", "consistency", "classification", "g_source", "d_real",
    "d_source", "adaptor_accuracy",
]  # fmt: skip
"""What losses.png shows of that."""

SHEET_FACES = 4


def build_generator(options: TrainOptions) -> Generator:
    """The generator of a run, with its first weights."""
    return Generator(
        options.width,
        options.norm,
        skip_first=options.skip_first,
        residual=options.residual,
    )


class Trainer(Run[Batch]):
    """One run in one folder.

    Args:
        options: what to do.
        data: folder with the training data.
        out: folder of the run; made if need be.
        cache: folder for decoded faces and teacher features, shared between runs.
        start: ONNX file of SFace or PoseFace: teacher, and start of the verifier.
        begin: exported file whose weights the generator begins with; None: by chance.
        console: where progress goes.
    """

    def __init__(
        self,
        options: TrainOptions,
        data: Path,
        out: Path,
        cache: Path,
        start: Path,
        begin: Path | None = None,
        console: Console | None = None,
    ):
        self.options = options
        self.people: People = load_people(options, data, cache, start)
        faces, split = self.people.faces, self.people.split
        clean = self.people.clean
        if clean is None:
            raise TrainingError("DDAT needs a teacher")
        super().__init__(
            "DDAT",
            out,
            {"losses": COLUMNS, "validation": ["step", *FIGURES]},
            faces.fingerprint,
            options.save_minutes,
            options.validate_steps,
            console,
        )
        self.domains = split_domains(faces, split, options.target_share, options.sharp_from)
        self.batches = Batches(faces, self.domains, options)
        self.steps = max(1, math.floor(options.epochs * self.batches.steps_per_epoch))
        torch.manual_seed(options.seed)
        even = torch.ones(len(faces))
        centres = class_centres(clean, self.domains.labels, self.domains.classes, even)
        generator = build_generator(options)
        if begin is not None:
            self._begin(generator, begin)
        self.networks = Networks(
            channels_last(generator.to(self.device)),
            Adaptor(BOTTLENECK_STEPS * options.width).to(self.device),
            channels_last(Discriminator(options.discriminator_width).to(self.device)),
            Verifier(start, centres, options.verifier_stages, options.scale).to(self.device),
        )
        self.average = Average(self.networks.generator, options.ema)
        self.game = Game(options, self.networks, self.device, self.check_finite)
        self.examination: Examination | None = None
        if self.people.validation is not None:
            self.examination = Examination(
                faces, self.people.validation, self.networks.verifier.trunk, options.validate_faces
            )
        write_record(
            out,
            options,
            {
                "steps": self.steps,
                "steps_per_epoch": self.batches.steps_per_epoch,
                "device": self.device.type,
                "teacher_sha256": file_sha256(start),
                "begun_with_sha256": None if begin is None else file_sha256(begin),
                **self.people.facts(),
                **self.domains.facts(),
            },
        )

    @property
    def faces_per_step(self) -> int:
        """Three for each triple."""
        return 3 * self.options.batch

    def batches_between(self, first: int, last: int) -> Iterator[Batch]:
        """Prepared ahead by threads."""
        return self.batches.iterate(first, last)

    def train_step(self, batch: Batch) -> dict[str, float]:
        """D, A, G and V in the order of the spec's section 5."""
        factor = self.game.set_rates(self.step, self.steps)
        there = Batch(*(self._there(tensor) for tensor in batch))
        row = self.game.play(there, stage_of(self.options, self.step, self.steps))
        self.step += 1
        self.average.update(self.networks.generator, self.step)
        epoch = self.step / self.batches.steps_per_epoch
        return {"step": self.step, "epoch": epoch, "rate": factor, **row}

    def validate(self) -> None:
        """Figures of the averaged generator on held-out people, curves, a sample sheet."""
        generator = self.average.network.eval()
        if self.examination is not None:
            measured = self.examination.of(
                generator, self.device, self.options.upsampling, QUICK_DOMAINS, QUICK_SIDES
            )
            self.logs["validation"].add({"step": self.step, **measured.figures()})
            self.console.print(measured_table(measured, f"step {self.step}"))
            draw(self.logs["validation"], self.out / "validation.png", FIGURES)
        draw(self.logs["losses"], self.out / "losses.png", DRAWN)
        split = self.people.split
        rows = split.validation if len(split.validation) else self.domains.source
        crops = self.people.faces.crops[rows[:: max(1, len(rows) // SHEET_FACES)][:SHEET_FACES]]
        sheet = sheet_faces(generator, crops, self.device, self.options.upsampling)
        write_sheet(self.out / f"sheet-{self.step:06d}.jpg", sheet)

    def state(self) -> dict[str, Any]:
        """All networks but the frozen teacher, the averaged generator, the optimisers."""
        n = self.networks
        return {
            "generator": n.generator.state_dict(),
            "average": self.average.network.state_dict(),
            "adaptor": n.adaptor.state_dict(),
            "discriminator": n.discriminator.state_dict(),
            "verifier": n.verifier.own_state(),
            "optimisers": self.game.state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Takes back what `state` gave."""
        n = self.networks
        n.generator.load_state_dict(state["generator"])
        self.average.network.load_state_dict(state["average"])
        n.adaptor.load_state_dict(state["adaptor"])
        n.discriminator.load_state_dict(state["discriminator"])
        n.verifier.load_own_state(state["verifier"])
        self.game.restore(state["optimisers"])

    def _begin(self, generator: Generator, path: Path) -> None:
        """Gives the generator a file's weights; its norms are set by the run's first batches."""
        seen = self.batches.iterate(0, min(self.steps, BATCHES))
        images = [torch.cat([batch.source, batch.target]) for batch in seen]
        try:
            begin_with(generator, path, images)
        except ValueError as error:
            raise TrainingError(str(error)) from error

    def _there(self, tensor: Tensor) -> Tensor:
        if tensor.ndim != 4:
            return tensor.to(self.device)
        return tensor.to(self.device, memory_format=torch.channels_last)
