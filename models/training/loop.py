"""The loop of a training run: progress, curves, checkpoints by the clock, a clean stop."""

from __future__ import annotations

import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any, Generic, TypeVar

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from models.training.checkpoint import CHECKPOINT, load_checkpoint, save_atomically
from models.training.curves import Log
from models.training.errors import DivergedError, StoppedError, TrainingError

BatchT = TypeVar("BatchT")

LOG_EVERY = 10
MAX_BAD_STEPS = 20
"""Steps in a row with a loss that is not finite before the run gives up."""


class Run(ABC, Generic[BatchT]):
    """One run in one folder; a killed run goes on from its last checkpoint.

    Args:
        title: what the progress bar says.
        out: folder of the run; made if need be.
        logs: CSV files of numbers by name; "losses" is written by the loop.
        fingerprint: of the data; a checkpoint of other data is refused.
        save_minutes: between checkpoints.
        validate_steps: between validations.
        console: where progress goes.
    """

    def __init__(
        self,
        title: str,
        out: Path,
        logs: dict[str, list[str]],
        fingerprint: str,
        save_minutes: float,
        validate_steps: int,
        console: Console | None = None,
    ):
        self.title = title
        self.out = out
        out.mkdir(parents=True, exist_ok=True)
        self.console = console or Console(stderr=True)
        self.logs = {name: Log(out / f"{name}.csv", columns) for name, columns in logs.items()}
        self.fingerprint = fingerprint
        self.save_seconds = save_minutes * 60
        self.validate_steps = validate_steps
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.steps = 0
        self.step = 0
        self.bad_steps = 0
        self.stopping = False

    @property
    @abstractmethod
    def faces_per_step(self) -> int:
        """Faces that one step sees, for the speed shown."""

    @abstractmethod
    def batches_between(self, first: int, last: int) -> Iterator[BatchT]:
        """Batches of the steps `first` up to, not including, `last`."""

    @abstractmethod
    def train_step(self, batch: BatchT) -> dict[str, float]:
        """One step; advances `step` and gives the row of losses."""

    @abstractmethod
    def validate(self) -> None:
        """Measures, writes tables and pictures."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """What a checkpoint holds beside step, chance and fingerprint."""

    @abstractmethod
    def restore(self, state: dict[str, Any]) -> None:
        """Takes back what `state` gave."""

    def run(self) -> None:
        """Train from where the folder's checkpoint stands to the end, or to a stop signal."""
        self.resume()
        previous = {sig: signal.signal(sig, self._stop) for sig in (signal.SIGTERM, signal.SIGINT)}
        try:
            self._loop()
        finally:
            for sig, handler in previous.items():
                signal.signal(sig, handler)

    def run_to_end(self) -> None:
        """As `run`, for what is measured or mapped with afterwards.

        Raises:
            StoppedError: a signal came first.
        """
        self.run()
        if self.stopping:
            raise StoppedError("stopped; the same command goes on")

    def check_finite(self, finite: bool) -> bool:
        """Counts steps whose loss or gradient is not finite; they must change nothing.

        Raises:
            DivergedError: too many in a row.
        """
        self.bad_steps = 0 if finite else self.bad_steps + 1
        if self.bad_steps >= MAX_BAD_STEPS:
            raise DivergedError(f"{self.bad_steps} steps in a row without a finite loss")
        return finite

    def save(self) -> None:
        """Write the checkpoint of this step."""
        state = {
            **self.state(),
            "step": self.step,
            "torch_rng": torch.get_rng_state(),
            "fingerprint": self.fingerprint,
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
            self._rewind(0)
            return
        state = load_checkpoint(path)
        if state["fingerprint"] != self.fingerprint:
            raise TrainingError(f"{path} was trained on other data")
        self.restore(state)
        torch.set_rng_state(state["torch_rng"])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(state["cuda_rng"])
        self.step = int(state["step"])
        self._rewind(self.step + 1)
        self.console.print(f"resumed after step {self.step} of {self.steps}")

    def _rewind(self, step: int) -> None:
        for log in self.logs.values():
            log.rewind(step)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self.stopping = True

    def _loop(self) -> None:
        if self.step == 0:
            self.validate()
        saved = started = time.monotonic()
        since = self.step
        columns = (
            TextColumn(self.title), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )  # fmt: skip
        with Progress(*columns, console=self.console) as progress:
            task = progress.add_task("", total=self.steps, completed=self.step, note="")
            for batch in self.batches_between(self.step, self.steps):
                values = self.train_step(batch)
                if self.step % LOG_EVERY == 0 or self.step == self.steps:
                    speed = (self.step - since) * self.faces_per_step / (time.monotonic() - started)
                    since, started = self.step, time.monotonic()
                    self.logs["losses"].add({**values, "images_per_s": speed})
                    note = f"loss {values['total']:.3f}, {speed:.0f} faces/s"
                    progress.update(task, completed=self.step, note=note)
                if self.step % self.validate_steps == 0:
                    self.validate()
                    since, started = self.step, time.monotonic()
                if time.monotonic() - saved > self.save_seconds or self.stopping:
                    self.save()
                    saved = time.monotonic()
                if self.stopping:
                    self.console.print(f"stopped after step {self.step}; the same command goes on")
                    return
        self.save()
        if self.step % self.validate_steps:
            self.validate()
