"""PoseFace's training loop: `python -m models.poseface.train --data DIR --out DIR --sface FILE`.

A run can be killed at any time: it saves every few minutes and on SIGTERM or SIGINT, and the same
command goes on from there, step for step as if it had not stopped.
"""

from __future__ import annotations

import math
import signal
import time
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from models.poseface.batches import Batch, Batches
from models.poseface.checkpoint import (
    CHECKPOINT,
    load_checkpoint,
    save_atomically,
    write_record,
)
from models.poseface.curves import Log, draw
from models.poseface.losses import pose_ratio
from models.poseface.network import build_network
from models.poseface.objective import Objective, Truth
from models.poseface.options import TrainOptions
from models.poseface.prepare import Material, prepare
from models.poseface.report import FIGURES, validation_figures, validation_table
from models.poseface.schedule import (
    Average,
    build_optimiser,
    freeze,
    rate_factor,
    set_rates,
    set_training,
)
from models.poseface.trunk import channels_last

LOSSES = ["total", "paa", "pose", "orth", "keep", "decode"]
COLUMNS = ["step", "epoch", "rate", *LOSSES, "grad_norm", "r_mean", "r_full", "images_per_s"]
LOG_EVERY = 10
MAX_BAD_STEPS = 20
"""Steps in a row with a loss that is not finite before the run gives up."""


class TrainingError(Exception):
    """The run cannot go on; the last checkpoint is intact."""


class Trainer:
    """One run in one folder.

    Args:
        options: what to do.
        data: folder with the training data.
        out: folder of the run; made if need be.
        cache: folder for decoded faces and teacher features, shared between runs.
        sface: SFace's ONNX file: the teacher and, for its own layers, the start.
        console: where progress goes.
    """

    def __init__(
        self,
        options: TrainOptions,
        data: Path,
        out: Path,
        cache: Path,
        sface: Path | None,
        console: Console | None = None,
    ):
        self.options = options
        self.out = out
        self.console = console or Console(stderr=True)
        out.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(options.seed)
        self.material: Material = prepare(options, data, cache, sface)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        start = sface if options.backbone == "sface" else None
        network = build_network(
            options.backbone, options.pose_dim, options.identity_dim, start, options.dropout
        )
        identity_dim = network.identity_head.out_features
        targets = self.material.targets
        if options.keep_weight and targets is not None and targets.shape[1] != identity_dim:
            raise TrainingError(
                "feature keeping needs an identity feature as wide as the teacher's"
            )
        self.network = channels_last(network.to(self.device))
        self.objective = Objective(
            options,
            self.material.split.classes,
            identity_dim,
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
        )
        self.steps = max(1, math.floor(options.epochs * self.batches.steps_per_epoch))
        self.step = 0
        self.bad_steps = 0
        self.stopping = False
        self.log = Log(out / "losses.csv", COLUMNS)
        self.validation_log = Log(out / "validation.csv", ["step", *FIGURES])
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

    def run(self) -> None:
        """Train from where the folder's checkpoint stands to the end, or to a stop signal."""
        self.resume()
        previous = {sig: signal.signal(sig, self._stop) for sig in (signal.SIGTERM, signal.SIGINT)}
        try:
            self._loop()
        finally:
            for sig, handler in previous.items():
                signal.signal(sig, handler)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self.stopping = True

    def _loop(self) -> None:
        if self.step == 0:
            self.validate()
        saved = started = time.monotonic()
        since = self.step
        columns = (
            TextColumn("PoseFace"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )  # fmt: skip
        with Progress(*columns, console=self.console) as progress:
            task = progress.add_task("", total=self.steps, completed=self.step, note="")
            for batch in self.batches.iterate(self.step, self.steps):
                values = self.train_step(batch)
                if self.step % LOG_EVERY == 0 or self.step == self.steps:
                    speed = (self.step - since) * self.options.batch / (time.monotonic() - started)
                    since, started = self.step, time.monotonic()
                    self.log.add({**values, "images_per_s": speed})
                    note = f"loss {values['total']:.3f}, {speed:.0f} faces/s"
                    progress.update(task, completed=self.step, note=note)
                if self.step % self.options.validate_steps == 0:
                    self.validate()
                    since, started = self.step, time.monotonic()
                if time.monotonic() - saved > self.options.save_minutes * 60 or self.stopping:
                    self.save()
                    saved = time.monotonic()
                if self.stopping:
                    self.console.print(f"stopped after step {self.step}; the same command goes on")
                    return
        self.save()
        if self.step % self.options.validate_steps:
            self.validate()

    def train_step(self, batch: Batch) -> dict[str, float]:
        """One optimiser step; a step whose loss is not finite changes nothing.

        Raises:
            TrainingError: too many such steps in a row.
        """
        set_training(self.network, self.options)
        factor = rate_factor(self.step, self.steps, self.options)
        set_rates(self.optimiser, factor)
        epoch = self.step / self.batches.steps_per_epoch
        truth = self._truth(batch)
        images = batch.images.to(self.device).float()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.options.amp):
            features = self.forward(images)
        losses = self.objective(self.network, features, truth, self.step / self.steps, epoch)
        self.optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(losses["total"])
        trained = [p for group in self.optimiser.param_groups for p in group["params"]]
        norm = torch.nn.utils.clip_grad_norm_(trained, self.options.clip)
        if torch.isfinite(losses["total"]) and torch.isfinite(norm):
            self.optimiser.step()
            self.bad_steps = 0
        else:
            self.bad_steps += 1
            if self.bad_steps >= MAX_BAD_STEPS:
                raise TrainingError(f"{self.bad_steps} steps in a row without a finite loss")
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

    def _truth(self, batch: Batch) -> Truth:
        targets = self.material.targets
        rows = batch.rows

        def there(tensor: Tensor) -> Tensor:
            return tensor.to(self.device)

        return Truth(
            labels=there(self.labels[rows]),
            landmarks=there(batch.landmarks),
            euler=there(batch.euler),
            target=there(targets[rows]) if targets is not None else None,
            keep=there(self.material.keep_weights[rows]),
        )

    def validate(self) -> None:
        """Figures of the averaged weights on the held-out people: CSV, curves, a table."""
        validation = self.material.validation
        if validation is not None:
            figures, rows = validation_figures(
                self.average.network, self.material.faces, validation, amp=self.options.amp
            )
            self.validation_log.add({"step": self.step, **figures})
            self.console.print(validation_table(rows, figures, f"step {self.step}"))
            draw(self.validation_log, self.out / "validation.png", FIGURES)
        draw(self.log, self.out / "losses.png", [*LOSSES[:-1], "grad_norm", "r_mean"])

    def save(self) -> None:
        """Write the checkpoint of this step."""
        state: dict[str, Any] = {
            "step": self.step,
            "network": self.network.state_dict(),
            "average": self.average.network.state_dict(),
            "objective": self.objective.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "torch_rng": torch.get_rng_state(),
            "fingerprint": self.material.faces.fingerprint,
        }
        if self.device.type == "cuda":
            state["cuda_rng"] = torch.cuda.get_rng_state()
        save_atomically(state, self.out / CHECKPOINT)

    def resume(self) -> None:
        """Take up the folder's checkpoint, if there is one.

        Raises:
            TrainingError: it belongs to other data.
        """
        path = self.out / CHECKPOINT
        if not path.is_file():
            self.log.rewind(0)
            self.validation_log.rewind(0)
            return
        state = load_checkpoint(path)
        if state["fingerprint"] != self.material.faces.fingerprint:
            raise TrainingError(f"{path} was trained on other data")
        self.network.load_state_dict(state["network"])
        self.average.network.load_state_dict(state["average"])
        self.objective.load_state_dict(state["objective"])
        self.optimiser.load_state_dict(state["optimiser"])
        torch.set_rng_state(state["torch_rng"])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(state["cuda_rng"])
        self.step = int(state["step"])
        self.log.rewind(self.step + 1)
        self.validation_log.rewind(self.step + 1)
        self.console.print(f"resumed after step {self.step} of {self.steps}")


if __name__ == "__main__":
    from models.poseface.command import app

    app()
