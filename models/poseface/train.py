"""PoseFace's training loop: `mien train poseface --data DIR --out DIR --sface FILE`.

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
from models.poseface.batches import Batch, Batches
from models.poseface.begin import fit_dense
from models.poseface.losses import pose_ratio
from models.poseface.network import PoseFaceNet, build_network
from models.poseface.objective import Objective, Truth
from models.poseface.options import TrainOptions
from models.poseface.prepare import Material, prepare
from models.poseface.report import FIGURES, validation_figures, validation_table
from models.poseface.schedule import (
    build_optimiser,
    freeze,
    rate_factor,
    set_rates,
    set_training,
)
from models.training.average import Average
from models.training.checkpoint import CHECKPOINT, write_record
from models.training.curves import draw
from models.training.errors import TrainingError
from models.training.loop import Run
from models.training.precision import mixed
from models.training.verifier import load_frozen

LOSSES = ["total", "paa", "pose", "orth", "keep", "decode"]
COLUMNS = ["step", "epoch", "rate", *LOSSES, "grad_norm", "r_mean", "r_full", "images_per_s"]


class Trainer(Run[Batch]):
    """One run in one folder.

    Args:
        options: what to do.
        data: folder with the training data.
        out: folder of the run; made if need be.
        cache: folder for decoded faces and teacher features, shared between runs.
        sface: SFace's ONNX file: cleans the labels; the start of its own layers; the teacher if
            there is no other.
        start: ONNX file from whose weights other layers start.
        teacher: ONNX file of the network whose features are kept to.
        console: where progress goes.
    """

    def __init__(
        self,
        options: TrainOptions,
        data: Path,
        out: Path,
        cache: Path,
        sface: Path | None,
        start: Path | None = None,
        teacher: Path | None = None,
        console: Console | None = None,
    ):
        self.options = options
        torch.manual_seed(options.seed)
        self.material: Material = prepare(options, data, cache, sface, teacher)
        super().__init__(
            "PoseFace",
            out,
            {"losses": COLUMNS, "validation": ["step", *FIGURES]},
            self.material.faces.fingerprint,
            options.save_minutes,
            options.validate_steps,
            console,
        )
        network = self._begin(sface, start, taught=teacher is not None)
        self.network = channels_last(network.to(self.device))
        self.objective = Objective(
            options,
            self.material.split.classes,
            network.identity_head.out_features,
            self.material.autoencoder,
            self.material.centres,
        ).to(self.device)
        freeze(self.network, options)
        self.average = Average(self.network, options.ema)
        self.optimiser = build_optimiser(self.network, self.objective, options)
        self.batches = Batches(
            self.material.faces,
            self.material.rows,
            options.augmentation,
            options.batch,
            options.seed,
            options.workers,
            self.material.nameless,
            options.nameless_share,
            options.blends,
        )
        self.seeing = self._seeing(teacher or sface)
        self.steps = max(1, math.floor(options.epochs * self.batches.steps_per_epoch))
        self.labels = torch.from_numpy(self.material.split.labels)
        self.forward = torch.compile(self.network) if options.compile else self.network
        write_record(
            out,
            options,
            {
                "steps": self.steps,
                "steps_per_epoch": self.batches.steps_per_epoch,
                "device": self.device.type,
                **self.material.facts,
            },
        )

    def _begin(self, sface: Path | None, start: Path | None, *, taught: bool) -> PoseFaceNet:
        """The network before its first step; a checkpoint is laid over it later."""
        options, targets = self.options, self.material.targets
        own = options.backbone == "sface"
        network = build_network(
            options.backbone,
            options.pose_dim,
            options.identity_dim,
            start or (sface if own else None),
            options.dropout,
        )
        width = network.identity_head.out_features
        if options.keep_weight and targets is not None and targets.shape[1] != width:
            raise TrainingError(
                "feature keeping needs an identity feature as wide as the teacher's"
            )
        begun = (self.out / CHECKPOINT).is_file()
        if taught and targets is not None and start is not None and not own and not begun:
            rows = self.material.split.train
            cosine = fit_dense(
                network.trunk, self.material.faces, rows, targets, options.seed, options.start_own
            )
            self.console.print(f"begins at a cosine of {cosine:.3f} to its teacher")
        return network

    @property
    def faces_per_step(self) -> int:
        """The batch."""
        return self.options.batch

    def batches_between(self, first: int, last: int) -> Iterator[Batch]:
        """Prepared ahead by threads."""
        return self.batches.iterate(first, last)

    def train_step(self, batch: Batch) -> dict[str, float]:
        """One optimiser step; a step whose loss is not finite changes nothing.

        Raises:
            TrainingError: too many such steps in a row.
        """
        set_training(self.network, self.options)
        factor = rate_factor(self.step, self.steps, self.options)
        set_rates(self.optimiser, factor)
        epoch = self.step / self.batches.steps_per_epoch
        images = batch.images.to(self.device).float()
        truth = self._truth(batch, images)
        with mixed(self.device, wanted=self.options.amp):
            features = self.forward(images)
        losses = self.objective(self.network, features, truth, self.step / self.steps, epoch)
        self.optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(losses["total"])
        trained = [p for group in self.optimiser.param_groups for p in group["params"]]
        norm = torch.nn.utils.clip_grad_norm_(trained, self.options.clip)
        if self.check_finite(bool(torch.isfinite(losses["total"]) and torch.isfinite(norm))):
            self.optimiser.step()
        self.step += 1
        self.average.update(self.network, self.step)
        ratio = pose_ratio(truth.euler, self.options.full_pose, self.options.ramp)
        return {
            "step": self.step,
            "epoch": epoch,
            "rate": factor,
            **{name: float(value.detach()) for name, value in losses.items()},
            "grad_norm": float(norm),
            "r_mean": float(ratio.mean()),
            "r_full": float((ratio >= 1).float().mean()),
        }

    def _seeing(self, teacher: Path | None) -> nn.Module | None:
        """The teacher that looks at every batch; None where its vectors of stored faces do."""
        if self.options.keep_to == "clean" or not self.options.keep_weight:
            return None
        if teacher is None:
            raise TrainingError("keep_to=seen needs a teacher: give its ONNX file")
        return load_frozen(teacher, self.device)

    def _truth(self, batch: Batch, images: Tensor) -> Truth:
        targets = self.material.targets
        rows = batch.rows
        target = targets[rows] if targets is not None else None
        if self.seeing is not None:
            with torch.no_grad():
                target = self.seeing(images)

        def there(tensor: Tensor) -> Tensor:
            return tensor.to(self.device)

        return Truth(
            labels=there(self.labels[rows]),
            landmarks=there(batch.landmarks),
            euler=there(batch.euler),
            target=there(target) if target is not None else None,
            keep=there(self.material.keep_weights[rows]),
            whole=there(batch.whole),
        )

    def validate(self) -> None:
        """Figures of the averaged weights on the held-out people: CSV, curves, a table."""
        validation = self.material.validation
        if validation is not None:
            figures, rows = validation_figures(
                self.average.network, self.material.faces, validation, amp=self.options.amp
            )
            self.logs["validation"].add({"step": self.step, **figures})
            self.console.print(validation_table(rows, figures, f"step {self.step}"))
            draw(self.logs["validation"], self.out / "validation.png", FIGURES)
        draw(self.logs["losses"], self.out / "losses.png", [*LOSSES[:-1], "grad_norm", "r_mean"])

    def state(self) -> dict[str, Any]:
        """Network, averaged network, classifier, optimiser."""
        return {
            "network": self.network.state_dict(),
            "average": self.average.network.state_dict(),
            "objective": self.objective.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Takes back what `state` gave."""
        self.network.load_state_dict(state["network"])
        self.average.network.load_state_dict(state["average"])
        self.objective.load_state_dict(state["objective"])
        self.optimiser.load_state_dict(state["optimiser"])
