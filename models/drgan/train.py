"""DR-GAN's training loop: `mien train drgan --data DIR --out DIR --start FILE`.

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
from torch import Tensor, nn

from models.backbones.trunk import channels_last
from models.drgan import losses
from models.drgan.batches import Batch, Batches
from models.drgan.network import (
    FEATURE_DIM,
    Decoder,
    Discriminator,
    Encoded,
    Encoder,
    Judgement,
    fuse,
)
from models.drgan.objective import paired_error, wanted_faces
from models.drgan.options import TrainOptions
from models.drgan.poses import YawBins, merged_bins, symmetric_bins
from models.drgan.pretrained import PretrainedEncoder
from models.drgan.report import FIGURES, Examination, measured_table
from models.drgan.sheets import SHEET_PEOPLE, pose_codes, rotations, write_sheet
from models.drgan.warm import Student, WarmRun, start_discriminator
from models.training.average import Average
from models.training.checkpoint import CHECKPOINT, load_checkpoint, write_record
from models.training.curves import draw
from models.training.errors import TrainingError
from models.training.loop import Run
from models.training.people import People, load_people
from models.training.precision import mixed
from models.training.teacher import class_centres

LOSSES = [
    "total", "g_identity", "g_pose", "l2", "keep", "d_identity", "d_pose", "d_fake", "d_accuracy",
]  # fmt: skip
COLUMNS = ["step", "epoch", "rate", *LOSSES, "d_steps", "weight_mean", "weight_std", "images_per_s"]
ACCURACY_DECAY = 0.95
SAMPLE = 64


class Generator(nn.Module):
    """Encoder, decoder, and the linear map by which the encoder keeps to its teacher."""

    def __init__(self, encoder: nn.Module, decoder: Decoder, keep: nn.Linear):
        super().__init__()
        self.encoder, self.decoder, self.keep = encoder, decoder, keep


def build_generator(
    options: TrainOptions, bins: YawBins, teacher_dim: int, start: Path | None
) -> Generator:
    """Encoder and decoder of a run; `start` fills a pretrained encoder."""
    encoder: nn.Module
    if options.encoder == "pretrained":
        encoder = PretrainedEncoder(start, freeze=options.freeze_trunk)
    else:
        encoder = Encoder(options.width)
    decoder = Decoder(len(bins), options.noise, options.width, options.variant)
    keep = nn.Linear(FEATURE_DIM, teacher_dim, bias=False)
    nn.init.eye_(keep.weight)
    return Generator(encoder, decoder, keep)


class Trainer(Run[Batch]):
    """One run in one folder.

    Args:
        options: what to do.
        data: folder with the training data.
        out: folder of the run; made if need be.
        cache: folder for decoded faces and teacher features, shared between runs.
        start: ONNX file of SFace or PoseFace: teacher, and start of a pretrained encoder.
        warm: folder of the warm start, shared between runs of the same options; OUT/warm if None.
        console: where progress goes.
    """

    def __init__(
        self,
        options: TrainOptions,
        data: Path,
        out: Path,
        cache: Path,
        start: Path,
        warm: Path | None = None,
        console: Console | None = None,
    ):
        self.options = options
        self.people: People = load_people(options, data, cache, start)
        faces, split = self.people.faces, self.people.split
        clean = self.people.clean
        if clean is None:
            raise TrainingError("DR-GAN needs a teacher")
        super().__init__(
            "DR-GAN",
            out,
            {"losses": COLUMNS, "validation": ["step", *FIGURES]},
            faces.fingerprint,
            options.save_minutes,
            options.validate_steps,
            console,
        )
        self.targets = clean
        known = split.labels >= 0
        yaw = faces.euler[known, 1]
        if options.variant == "cvpr17":
            self.bins = merged_bins(yaw, options.least_bin, options.widest_yaw)
        else:
            self.bins = symmetric_bins(options.widest_yaw)
        self.batches = Batches(faces, split.labels, self.bins, options)
        self.steps = max(1, math.floor(options.epochs * self.batches.steps_per_epoch))
        self.warm = warm or out / "warm"
        torch.manual_seed(options.seed)
        self.generator = channels_last(
            build_generator(options, self.bins, clean.shape[1], start).to(self.device)
        )
        self.discriminator = channels_last(
            Discriminator(split.classes, len(self.bins), options.width, options.variant).to(
                self.device
            )
        )
        self.average = Average(self.generator, options.ema)
        self.optimiser_g = torch.optim.Adam(self._groups(), betas=(options.beta1, options.beta2))
        self.optimiser_d = torch.optim.Adam(
            [{"params": list(self.discriminator.parameters()), "base_lr": options.lr}],
            lr=options.lr,
            betas=(options.beta1, options.beta2),
        )
        self.accuracy = 0.0
        self.d_steps = 0
        self.examination = (
            Examination(faces, self.people.validation) if self.people.validation else None
        )
        write_record(
            out,
            options,
            {
                "steps": self.steps,
                "steps_per_epoch": self.batches.steps_per_epoch,
                "device": self.device.type,
                "yaw_bins": list(self.bins.centres),
                "faces_per_bin": self.bins.counts(yaw),
                "teacher_dim": clean.shape[1],
                **self.people.facts(),
            },
        )

    @property
    def faces_per_step(self) -> int:
        """P x n."""
        return self.options.people * self.options.images

    def batches_between(self, first: int, last: int) -> Iterator[Batch]:
        """Prepared ahead by threads."""
        return self.batches.iterate(first, last)

    def run(self) -> None:
        """The warm start, if it has not been done, then the GAN."""
        if not (self.out / CHECKPOINT).is_file():
            self._warm_start()
        if not self.stopping:
            super().run()

    def train_step(self, batch: Batch) -> dict[str, float]:
        """One step of the generator, and one of the discriminator where it is its turn."""
        o = self.options
        self.generator.train()
        self.discriminator.train()
        factor = self._set_rates()
        wanted = wanted_faces(batch, o.images, self.bins, o.paired)
        real = self._there(batch.real)
        labels = wanted.labels.to(self.device)
        bins, yaw = wanted.bins.to(self.device), wanted.yaw.to(self.device)
        with self._autocast():
            encoded: Encoded = self.generator.encoder(self._there(batch.seen))
            feature = encoded.feature.float()
            if o.images > 1:
                feature = torch.cat([feature, fuse(encoded, o.images)])
            noise = torch.rand(len(feature), o.noise, device=self.device) * 2 - 1
            codes = pose_codes(bins, yaw, self.generator.decoder)
            made = self.generator.decoder(feature, codes, noise)
        row = self._step_discriminator(batch, real, made.detach()) if o.adversarial_weight else {}
        parts = {
            "l2": paired_error(made, real, wanted.partner.to(self.device)),
            "keep": losses.keep_loss(
                self.generator.keep(encoded.feature.float()),
                self.targets[batch.rows].to(self.device),
            ),
        }
        total = o.l2_weight * parts["l2"] + o.keep_weight * parts["keep"]
        if o.adversarial_weight:
            self.discriminator.requires_grad_(requires_grad=False)
            with self._autocast():
                judged: Judgement = self.discriminator(made)
            self.discriminator.requires_grad_(requires_grad=True)
            parts |= losses.generator_loss(judged, labels, bins, yaw)
            total = total + o.adversarial_weight * (parts["g_identity"] + parts["g_pose"])
        self._take_step(self.optimiser_g, self.generator, total)
        self.step += 1
        self.average.update(self.generator, self.step)
        weights = encoded.weight.detach().float()
        return {
            "step": self.step,
            "epoch": self.step / self.batches.steps_per_epoch,
            "rate": factor,
            "total": float(total.detach()),
            **{name: float(value.detach()) for name, value in parts.items()},
            **row,
            "d_accuracy": self.accuracy,
            "d_steps": self.d_steps,
            "weight_mean": float(weights.mean()),
            "weight_std": float(weights.std()),
        }

    def _step_discriminator(self, batch: Batch, real: Tensor, made: Tensor) -> dict[str, float]:
        """One step, unless it is strong and it is the generator's turn.

        Real and made faces go through in batches of their own, so that each has its own statistics.
        """
        strong = self.accuracy >= self.options.strong_at
        if strong and self.step % self.options.strong_every:
            return {}
        labels, bins = batch.labels.to(self.device), batch.bins.to(self.device)
        with self._autocast():
            of_real: Judgement = self.discriminator(real)
            of_made: Judgement = self.discriminator(made)
        parts = losses.discriminator_loss(of_real, of_made, labels, bins, batch.yaw.to(self.device))
        total = torch.stack(list(parts.values())).sum()
        self._take_step(self.optimiser_d, self.discriminator, total)
        self.d_steps += 1
        right = losses.discriminator_accuracy(of_real, of_made, labels, bins)
        self.accuracy = ACCURACY_DECAY * self.accuracy + (1 - ACCURACY_DECAY) * right
        return {name: float(value.detach()) for name, value in parts.items()}

    def _take_step(
        self, optimiser: torch.optim.Optimizer, network: nn.Module, loss: Tensor
    ) -> None:
        """A loss or gradient that is not finite changes nothing."""
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        norm = torch.nn.utils.clip_grad_norm_(network.parameters(), self.options.clip)
        if self.check_finite(bool(torch.isfinite(loss) and torch.isfinite(norm))):
            optimiser.step()

    def validate(self) -> None:
        """Figures of the averaged encoder on held-out people, curves, a sample sheet."""
        generator = self.average.network.eval()
        if self.examination is not None:
            measured = self.examination.of(generator.encoder, self.device)
            self.logs["validation"].add({"step": self.step, **measured.figures()})
            self.console.print(measured_table(measured, f"step {self.step}"))
            draw(self.logs["validation"], self.out / "validation.png", FIGURES)
        draw(self.logs["losses"], self.out / "losses.png", [*LOSSES, "weight_std"])
        batch = self.batches.make(0)
        first = torch.arange(0, len(batch.labels), self.options.images)[:SHEET_PEOPLE]
        given = self._there(batch.real[first])
        with torch.no_grad():
            features = generator.encoder(given).feature.float()
        made = rotations(generator.decoder, features, self.bins)
        write_sheet(self.out / f"sheet-{self.step:06d}.jpg", given, made)

    def state(self) -> dict[str, Any]:
        """Both networks, the averaged generator, both optimisers, who is ahead."""
        return {
            "generator": self.generator.state_dict(),
            "average": self.average.network.state_dict(),
            "discriminator": self.discriminator.state_dict(),
            "optimiser_g": self.optimiser_g.state_dict(),
            "optimiser_d": self.optimiser_d.state_dict(),
            "accuracy": self.accuracy,
            "d_steps": self.d_steps,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Takes back what `state` gave."""
        self.generator.load_state_dict(state["generator"])
        self.average.network.load_state_dict(state["average"])
        self.discriminator.load_state_dict(state["discriminator"])
        self.optimiser_g.load_state_dict(state["optimiser_g"])
        self.optimiser_d.load_state_dict(state["optimiser_d"])
        self.accuracy, self.d_steps = float(state["accuracy"]), int(state["d_steps"])

    def _warm_start(self) -> None:
        o = self.options
        if not o.warm_epochs:
            return
        run = WarmRun(o, self.people, self.warm, self.console)
        done = self.warm / CHECKPOINT
        if not (done.is_file() and load_checkpoint(done)["step"] >= run.steps):
            run.run()
            self.stopping = run.stopping
            if self.stopping:
                return
        else:
            run.resume()
        student: Student = run.student
        split = self.people.split
        even = torch.ones(len(split.labels))
        centres = class_centres(self.targets, split.labels, split.classes, even)
        sample = self._there(self.batches.make(0).real[:SAMPLE])
        start_discriminator(self.discriminator, student, centres, sample)
        if isinstance(self.generator.encoder, Encoder):
            self.generator.encoder.load_state_dict(student.encoder.state_dict())
            self.generator.keep.load_state_dict(student.head.state_dict())
            self.average = Average(self.generator, o.ema)

    def _groups(self) -> list[dict[str, Any]]:
        o = self.options
        encoder = self.generator.encoder
        weight: list[nn.Parameter] = []
        if isinstance(encoder, PretrainedEncoder):
            weight = list(encoder.weight.parameters())
        known = {id(p) for p in weight}
        feature = [p for p in encoder.parameters() if p.requires_grad and id(p) not in known]
        rest = [*self.generator.decoder.parameters(), *self.generator.keep.parameters()]
        groups = ((o.lr_encoder, feature), (o.lr_weight, weight), (o.lr, rest))
        return [
            {"params": params, "lr": rate, "base_lr": rate} for rate, params in groups if params
        ]

    def _set_rates(self) -> float:
        """Constant, then falling to a twentieth over the last share of the run."""
        left = (1 - self.step / self.steps) / self.options.decay if self.options.decay else 1.0
        factor = max(0.05, min(1.0, left))
        for optimiser in (self.optimiser_g, self.optimiser_d):
            for group in optimiser.param_groups:
                group["lr"] = group["base_lr"] * factor
        return factor

    def _there(self, images: Tensor) -> Tensor:
        return images.to(self.device, memory_format=torch.channels_last)

    def _autocast(self) -> torch.autocast:
        return mixed(self.device, wanted=self.options.amp)
