"""R3AN's training loop: `mien train r3an --source M --target N --images DIR --out DIR`.

A run can be killed at any time; the same command goes on, step for step, as if it had not stopped.
A run that diverges is a result too, recorded as "NAN" as in the method's table.
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from rich.console import Console
from torch import nn

from models.r3an import linear
from models.r3an.arrays import Floats
from models.r3an.game import Batch, Game
from models.r3an.mappers import FcMap, ResidualR3an, mapped
from models.r3an.measure import quick_figures
from models.r3an.network import (
    BIG,
    IMAGE_SIDE,
    SMALL,
    Discriminator,
    Extractor,
    Generator,
    Networks,
    R3an,
    restate,
    scaled,
)
from models.r3an.options import TrainOptions
from models.r3an.vectors import Pairs
from models.training.average import Average
from models.training.checkpoint import write_record
from models.training.curves import draw
from models.training.errors import DivergedError
from models.training.faces import BORDER, CROP_SIDE, Bytes, Faces
from models.training.loop import Run

LOSSES = ["total", "d", "rec_l2", "rec_adv", "rep", "reg"]
COLUMNS = ["step", "epoch", *LOSSES, "images_per_s"]
FIGURES = ["cosine", "rank1"]
RESTATED = 8192
"""Vectors that batch statistics are taken from."""

RESULT = "result.json"
NAN = "NAN"


def small_faces(faces: Faces, cache: Path) -> Bytes:
    """(N,56,56,3) uint8 RGB: the central 112x112 of all faces, halved by area; made once."""
    path = cache / f"small-{faces.fingerprint[:16]}.npy"
    if not path.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        small = np.empty((len(faces), IMAGE_SIDE, IMAGE_SIDE, 3), np.uint8)
        central = slice(BORDER, CROP_SIDE - BORDER)
        for row in range(len(faces)):
            crop = np.ascontiguousarray(faces.crops[row, central, central])
            small[row] = cv2.resize(crop, (IMAGE_SIDE, IMAGE_SIDE), interpolation=cv2.INTER_AREA)
        draft = path.with_suffix(".part")
        with draft.open("wb") as file:
            np.save(file, small)
        draft.replace(path)
    small_ones: Bytes = np.load(path, mmap_mode="r")
    return small_ones


def build(options: TrainOptions, pairs: Pairs) -> tuple[nn.Module, Networks | None]:
    """The whole way of a run and the networks in it, with their first weights."""
    d_s, d_t = pairs.dimensions
    if options.fc != "none":
        return FcMap((d_s, d_t), deep=options.fc == "deep"), None
    extractor = Extractor(d_t, BIG if options.big else SMALL)
    networks = Networks(Generator(d_s), Discriminator(), extractor)
    path = R3an(networks.generator, networks.extractor)
    if not options.linear_path:
        return path, networks
    source, target, _ = pairs.learned()
    return ResidualR3an(linear.ridge(source, target), path), networks


def path_of(mapper: nn.Module) -> R3an | None:
    """The way over a face in a map; None in one without."""
    inner = mapper.path if isinstance(mapper, ResidualR3an) else mapper
    return inner if isinstance(inner, R3an) else None


def served(mapper: nn.Module, vectors: Floats) -> nn.Module:
    """A copy of a map as it is used: batch statistics taken anew from these (N,d_S) vectors."""
    made = copy.deepcopy(mapper).eval()
    path = path_of(made)
    if path is not None:
        device = next(made.parameters()).device
        restate(path.generator, path.extractor, scaled(torch.from_numpy(vectors)).to(device))
    return made


class Trainer(Run[Batch]):
    """One run in one folder.

    Args:
        options: what to do.
        pairs: vectors of both models for all faces.
        faces: the same faces; only their pictures and fingerprint are used.
        out: folder of the run; made if need be.
        cache: folder for the small pictures.
        facts: of the two models, for the record.
        console: where progress goes.
    """

    def __init__(
        self,
        options: TrainOptions,
        pairs: Pairs,
        faces: Faces,
        out: Path,
        cache: Path,
        facts: dict[str, Any] | None = None,
        console: Console | None = None,
    ):
        self.options, self.pairs = options, pairs
        about = facts or {}
        identity = "".join(str(about.get(key, "")) for key in ("source_sha256", "target_sha256"))
        super().__init__(
            "R3AN",
            out,
            {"losses": COLUMNS, "validation": ["step", *FIGURES]},
            faces.fingerprint + identity,
            options.save_minutes,
            options.validate_steps,
            console,
        )
        self.rows = pairs.train[: options.limit] if options.limit else pairs.train
        self.small = small_faces(faces, cache) if options.fc == "none" else None
        torch.manual_seed(options.seed)
        self.mapper, self.networks = build(options, pairs)
        self.mapper.to(self.device)
        if self.networks is not None:
            self.networks.discriminator.to(self.device)
        self.batch = min(options.batch, len(self.rows))
        self.steps_per_epoch = len(self.rows) // self.batch
        self.steps = max(1, round(options.epochs * self.steps_per_epoch))
        self.average = Average(self.mapper, options.ema)
        self.game = Game(options, self.mapper, self.networks, self.device)
        self.seconds_per_step = 0.0  # a moving average
        record = {"steps": self.steps, "device": self.device.type, **pairs.facts(), **about}
        write_record(out, options, record)

    @property
    def faces_per_step(self) -> int:
        """The batch."""
        return self.batch

    def run(self) -> None:
        """Trains to the end, to a stop signal, or until the losses are numbers no more."""
        try:
            super().run()
        except DivergedError as error:
            self.write_result({"rank1": NAN, "why": str(error), "step": self.step})
            self.console.print(f"{NAN}: {error}")

    def batches_between(self, first: int, last: int) -> Iterator[Batch]:
        """In an order that depends on seed and epoch alone."""
        for step in range(first, last):
            yield self.make(step)

    def make(self, step: int) -> Batch:
        """The batch of one step; a mirrored face comes with the vectors of its mirror image."""
        epoch, place = divmod(step, self.steps_per_epoch)
        rng = np.random.default_rng((self.options.seed, epoch))
        order = rng.permutation(len(self.rows))[place * self.batch : (place + 1) * self.batch]
        rows = self.rows[order]
        mirrored = np.random.default_rng((self.options.seed, epoch, place)).random(len(rows))
        view = (mirrored < self.options.flip).astype(np.int64)
        images = torch.empty(0)
        if self.small is not None:
            pictures = self.small[np.sort(rows)][np.argsort(np.argsort(rows))]
            pictures = np.where(view[:, None, None, None] == 1, pictures[:, :, ::-1], pictures)
            channels_first = np.ascontiguousarray(pictures.transpose(0, 3, 1, 2))
            images = (torch.from_numpy(channels_first).float() - 127.5) / 127.5
        return Batch(
            torch.from_numpy(self.pairs.source[rows, view]),
            torch.from_numpy(self.pairs.target[rows, view]),
            images,
        )

    def train_step(self, batch: Batch) -> dict[str, float]:
        """D, G, E, then G and E, in the order of Algorithm 1."""
        started = time.perf_counter()
        there = Batch(*(tensor.to(self.device) for tensor in batch))
        row = self.game.play(there, self.step / self.steps)
        self.seconds_per_step += 0.02 * (time.perf_counter() - started - self.seconds_per_step)
        self.check_finite(self.game.finite)
        self.step += 1
        self.average.update(self.mapper, self.step)
        return {"step": self.step, "epoch": self.step / self.steps_per_epoch, **row}

    def result(self) -> nn.Module:
        """The averaged map as it is used, on the CPU."""
        vectors = self.pairs.source[self.rows, 0][:RESTATED]
        return served(self.average.network, vectors).cpu()

    def validate(self) -> None:
        """Figures of the averaged map on the calibration people, and curves."""
        draw(self.logs["losses"], self.out / "losses.png", LOSSES)
        if not len(self.pairs.calibration):
            return
        network = self.result()
        figures = quick_figures(self.pairs, lambda vectors: mapped(network, vectors))
        self.logs["validation"].add({"step": self.step, **figures})
        told = ", ".join(f"{name} {value:.3f}" for name, value in figures.items())
        self.console.print(f"step {self.step}: {told}")
        draw(self.logs["validation"], self.out / "validation.png", FIGURES)
        if self.step == self.steps:
            self.write_result({**figures, "step": self.step})

    def write_result(self, facts: dict[str, Any]) -> None:
        """`result.json`: figures on the calibration people, or "NAN"."""
        (self.out / RESULT).write_text(json.dumps(facts, indent=2) + "\n")

    def state(self) -> dict[str, Any]:
        """All networks, the averaged map, the optimisers."""
        discriminator = None
        if self.networks is not None:
            discriminator = self.networks.discriminator.state_dict()
        return {
            "mapper": self.mapper.state_dict(),
            "average": self.average.network.state_dict(),
            "discriminator": discriminator,
            "optimisers": self.game.state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Takes back what `state` gave."""
        self.mapper.load_state_dict(state["mapper"])
        self.average.network.load_state_dict(state["average"])
        if self.networks is not None:
            self.networks.discriminator.load_state_dict(state["discriminator"])
        self.game.restore(state["optimisers"])
