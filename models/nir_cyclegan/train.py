"""The training loop: `mien train nir-cyclegan --data DIR --out DIR --start FILE`.

A run can be killed at any time: it saves every few minutes and on SIGTERM or SIGINT, and the same
command goes on from there, step for step as if it had not stopped.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from models.backbones.sface import load_trunk
from models.backbones.trunk import Network, channels_last
from models.ddat.domains import Domains, split_domains
from models.ddat.network import Discriminator
from models.nir_cyclegan.batches import Batch, Batches
from models.nir_cyclegan.figures import FIGURES, measured_table
from models.nir_cyclegan.game import Game, Networks
from models.nir_cyclegan.network import Generator, Served, load_generator
from models.nir_cyclegan.options import TrainOptions
from models.nir_cyclegan.perception import FaceEyes, load_vgg16
from models.nir_cyclegan.pictures import Operation
from models.nir_cyclegan.report import Examination, Translators
from models.nir_cyclegan.sheets import sheet_faces
from models.training.average import Average
from models.training.checkpoint import write_record
from models.training.curves import draw
from models.training.errors import TrainingError
from models.training.faces import Faces, Ints, Split, load_faces, split_people
from models.training.loop import Run
from models.training.people import People, load_people
from models.training.sheets import write_sheet
from models.zoo.fetch import file_sha256

LOSSES = [
    "total", "cycle_vis", "cycle_nir", "perceptual", "cycle_identity", "identity", "feature",
    "brightness", "mapping", "g_nir", "g_vis", "d_nir", "d_vis",
]  # fmt: skip
COLUMNS = ["step", "epoch", "rate", *LOSSES, "images_per_s"]
DRAWN = [name for name in LOSSES if name != "mapping"]
"""What losses.png shows of that."""

SHEET_FACES = 6


def build_generators(options: TrainOptions) -> tuple[Generator, Generator]:
    """G and F of a run, with their first weights."""
    o = options
    forth = Generator(o.width, o.blocks, residual=o.residual, grey=o.grey)
    return forth, Generator(o.width, o.blocks, residual=o.residual)


class Trainer(Run[Batch]):
    """One run in one folder.

    Args:
        options: what to do.
        data: folder with the training data.
        out: folder of the run; made if need be.
        cache: folder for decoded faces and teacher features, shared between runs.
        start: ONNX file of SFace or PoseFace: the teacher.
        vgg16: state-dict file of VGG16 for the perceptual loss; else the teacher's maps.
        infrared: folder with real near-infrared faces of other people; else they are simulated.
        begin: exported files whose weights G and F begin with; one that is not named begins with
            chance.
        console: where progress goes.
    """

    def __init__(
        self,
        options: TrainOptions,
        data: Path,
        out: Path,
        cache: Path,
        start: Path,
        vgg16: Path | None = None,
        infrared: Path | None = None,
        begin: Mapping[Operation, Path] | None = None,
        console: Console | None = None,
    ):
        self.options = options
        self.people: People = load_people(options, data, cache, start)
        faces, split = self.people.faces, self.people.split
        real = real_infrared(options, infrared, cache, faces)
        super().__init__(
            "NIR CycleGAN",
            out,
            {"losses": COLUMNS, "validation": ["step", *FIGURES]},
            faces.fingerprint if real is None else faces.fingerprint + real[0].fingerprint,
            options.save_minutes,
            options.validate_steps,
            console,
        )
        self.domains = choose_domains(options, faces, split, simulated=real is None)
        self.batches = Batches(faces, self.domains, options, real)
        self.steps = max(1, math.floor(options.epochs * self.batches.steps_per_epoch))
        torch.manual_seed(options.seed)
        forth, back = build_generators(options)
        generators: dict[Operation, Generator] = {"vis2nir": forth, "nir2vis": back}
        begin = begin or {}
        try:
            for operation, path in begin.items():
                load_generator(generators[operation], path)
        except ValueError as error:
            raise TrainingError(str(error)) from error
        judge_nir, judge_vis = (Discriminator(options.discriminator_width) for _ in range(2))
        self.networks = Networks(
            self._placed(forth),
            self._placed(back),
            self._placed(judge_nir),
            self._placed(judge_vis),
            FaceEyes(load_trunk(start)).to(self.device),
            None if vgg16 is None else load_vgg16(vgg16).to(self.device),
        )
        self.averages = {
            "vis2nir": Average(self.networks.vis2nir, options.ema),
            "nir2vis": Average(self.networks.nir2vis, options.ema),
        }
        self.game = Game(options, self.networks, self.device, self.check_finite)
        self.examination: Examination | None = None
        if self.people.validation is not None:
            self.examination = Examination(
                faces, self.people.validation, self.networks.eyes.trunk, options.validate_faces
            )
        write_record(
            out,
            options,
            {
                "steps": self.steps,
                "steps_per_epoch": self.batches.steps_per_epoch,
                "device": self.device.type,
                "perc": self.networks.perception if options.perceptual_weight else "off",
                "near_infrared": "simulated" if real is None else "real",
                "teacher_sha256": file_sha256(start),
                "vgg16_sha256": vgg16 and file_sha256(vgg16),
                "begun_with_sha256": {name: file_sha256(path) for name, path in begin.items()},
                **self.people.facts(),
                "visible_faces": len(self.batches.vis),
                "near_infrared_faces": len(self.batches.nir),
            },
        )

    @property
    def faces_per_step(self) -> int:
        """Both domains' and the pairs'."""
        return 2 * self.options.batch + self.options.pairs

    def translators(self) -> Translators:
        """The averaged generators as they would be served."""
        side = self.options.side
        return Translators(
            Served(self.averages["nir2vis"].network, side, grey=False).eval(),
            Served(self.averages["vis2nir"].network, side, grey=True).eval(),
            self.options.he,
            self.device,
        )

    def batches_between(self, first: int, last: int) -> Iterator[Batch]:
        """Prepared ahead by threads."""
        return self.batches.iterate(first, last)

    def train_step(self, batch: Batch) -> dict[str, float]:
        """Both cycles, then the discriminators."""
        factor = self.game.set_rates(self.step, self.steps)
        there = Batch(*(self._there(tensor) for tensor in batch))
        row = self.game.play(there, self.step, self.steps)
        self.step += 1
        self.averages["vis2nir"].update(self.networks.vis2nir, self.step)
        self.averages["nir2vis"].update(self.networks.nir2vis, self.step)
        epoch = self.step / self.batches.steps_per_epoch
        return {"step": self.step, "epoch": epoch, "rate": factor, **row}

    def validate(self) -> None:
        """Figures of the averaged generators on held-out people, curves, a sample sheet."""
        translators = self.translators()
        if self.examination is not None:
            measured = self.examination.of(translators)
            self.logs["validation"].add({"step": self.step, **measured.figures()})
            self.console.print(measured_table(measured, f"step {self.step}"))
            draw(self.logs["validation"], self.out / "validation.png", FIGURES)
        draw(self.logs["losses"], self.out / "losses.png", DRAWN)
        split = self.people.split
        rows = split.validation if len(split.validation) else self.domains.source
        crops = self.people.faces.crops[rows[:: max(1, len(rows) // SHEET_FACES)][:SHEET_FACES]]
        write_sheet(self.out / f"sheet-{self.step:06d}.jpg", sheet_faces(translators, crops))

    def state(self) -> dict[str, Any]:
        """All networks but the frozen ones, the averaged generators, optimisers and pools."""
        return {
            **{name: n.state_dict() for name, n in self.networks.learned().items()},
            "averages": {name: a.network.state_dict() for name, a in self.averages.items()},
            "optimisers": self.game.state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Takes back what `state` gave."""
        for name, network in self.networks.learned().items():
            network.load_state_dict(state[name])
        for name, average in self.averages.items():
            average.network.load_state_dict(state["averages"][name])
        self.game.restore(state["optimisers"])

    def _placed(self, network: Network) -> Network:
        """On the device, laid out as convolutions are fastest there."""
        network = network.to(self.device)
        return channels_last(network) if self.device.type == "cuda" else network

    def _there(self, tensor: Tensor) -> Tensor:
        if tensor.ndim == 4 and self.device.type == "cuda":
            return tensor.to(self.device, memory_format=torch.channels_last)
        return tensor.to(self.device)


def choose_domains(
    options: TrainOptions, faces: Faces, split: Split, *, simulated: bool
) -> Domains:
    """Who is visible and who near infrared; with real near infrared all may be visible.

    Raises:
        ValueError: a domain has no face.
    """
    domains = split_domains(faces, split, options.nir_share, options.sharp_from)
    if simulated:
        return domains
    others = domains.target[faces.eyes[domains.target] >= options.sharp_from]
    return replace(domains, source=np.sort(np.concatenate([domains.source, others])))


def real_infrared(
    options: TrainOptions, folder: Path | None, cache: Path, visible: Faces
) -> tuple[Faces, Ints] | None:
    """Real near-infrared faces and the rows that train: of nobody held out or seen as visible.

    Args:
        options: share of people held out.
        folder: in the form of training data, as `casia.write_faces` makes it.
        cache: for decoded faces.
        visible: the other domain.
    """
    if folder is None:
        return None
    faces = load_faces(folder, cache)
    shares = dict.fromkeys(faces.sources().tolist(), options.holdout_nir)
    rows = split_people(faces, shares, 1).train
    known = set(visible.people) - {""}
    kept = [row for row in rows if faces.people[row] and faces.people[row] not in known]
    return faces, np.array(kept, dtype=np.int64)
