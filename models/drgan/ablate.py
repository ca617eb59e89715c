"""The ablation in one command: images per person in training, and adversarial against L2.

Every variant starts from the same weights and the same warm start, and sees as many faces. Each is
measured on the held-out people with intervals over people: smaller differences say nothing.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table

from models.drgan.export import load_generator
from models.drgan.options import Profile, profile_options
from models.drgan.report import Examination, Measured, encode, redrawn
from models.drgan.train import Trainer
from models.evaluation.bootstrap import Interval
from models.training.options_cli import CacheOption, DataOption, RunOption, StartOption
from models.training.validation import TARGET_FMR, shown, tar_intervals

FACES = 48
"""P x n of every variant."""

VARIANTS: dict[str, dict[str, float]] = {
    "n=1": {"images": 1, "people": FACES},
    "n=4": {"images": 4, "people": FACES // 4},
    "n=6": {"images": 6, "people": FACES // 6},
    "n=4, L2 alone": {"images": 4, "people": FACES // 4, "adversarial_weight": 0.0},
    "n=4, adversarial alone": {
        "images": 4, "people": FACES // 4, "l2_weight": 0.0, "paired": 0.0,
    },
    "n=4, no distillation": {"images": 4, "people": FACES // 4, "keep_weight": 0.0},
}  # fmt: skip
"""What each variant changes in the options of the profile."""

BINS = ("cfp frontal-frontal", "cfp frontal-profile", "yaw 45-90")

app = typer.Typer(help="DR-GAN: ablation of its parts.", add_completion=False)


@dataclass(frozen=True)
class Outcome:
    """One variant.

    Attributes:
        name: a key of `VARIANTS`, or "teacher".
        tar: per bin, at a false-match rate of 1e-2, with a 95 % interval over people.
        synthetic: the same for features of faces drawn from the front; empty for the teacher.
        fusion: the same for templates, by "weights of 6" and the like; empty for the teacher.
        weight_yaw: rank correlation of the fusion weight with |yaw|.
        weight_blur: with the sigma of a blur.
    """

    name: str
    tar: dict[str, Interval]
    synthetic: dict[str, Interval]
    fusion: dict[str, Interval]
    weight_yaw: float
    weight_blur: float


def run_variant(trainer: Trainer, name: str) -> tuple[Outcome, Outcome]:
    """Train and measure one variant.

    Returns:
        The variant's outcome and the teacher's on the same pairs.

    Raises:
        ValueError: the data have no held-out people.
    """
    validation = trainer.people.validation
    if validation is None:
        raise ValueError("an ablation needs held-out people")
    trainer.examination = None  # measured once, below
    trainer.run_to_end()
    generator, bins = load_generator(trainer.out)
    encoder = generator.encoder
    examination = Examination(trainer.people.faces, validation)
    cpu = torch.device("cpu")
    measured: Measured = examination.of(encoder, cpu)
    people = np.array(trainer.people.faces.people)[validation.rows]
    features, _ = encode(encoder, examination.crops, cpu)
    fusion = {
        f"{point.fusion} of {point.images}": point.tar
        for point in measured.fusion
        if point.images in (1, 6)
    }
    return (
        Outcome(
            name,
            tar_intervals(validation, people, features),
            tar_intervals(
                validation, people, redrawn(encoder, generator.decoder, features, bins, cpu)
            ),
            fusion,
            measured.weight_yaw,
            measured.weight_blur,
        ),
        Outcome(
            "teacher",
            tar_intervals(validation, people, validation.teacher),
            {},
            {},
            float("nan"),
            float("nan"),
        ),
    )


def outcome_table(outcomes: list[Outcome]) -> Table:
    """One row per variant: TAR and interval per bin, of templates, and the weights."""
    table = Table(title=f"TAR at a false-match rate of {TARGET_FMR:g} [95 % interval over people]")
    table.add_column("variant")
    fusions = list(dict.fromkeys(name for outcome in outcomes for name in outcome.fusion))
    drawn = [f"synthetic {name}" for name in BINS[:2]]
    for name in (*BINS, *drawn, *fusions, "weight, |yaw|", "weight, blur"):
        table.add_column(name, justify="right")
    for outcome in outcomes:
        table.add_row(
            outcome.name,
            *(shown(outcome.tar.get(name)) for name in BINS),
            *(shown(outcome.synthetic.get(name)) for name in BINS[:2]),
            *(shown(outcome.fusion.get(name)) for name in fusions),
            f"{outcome.weight_yaw:.2f}",
            f"{outcome.weight_blur:.2f}",
        )
    return table


@app.command()
def ablate(
    data: DataOption,
    out: RunOption,
    start: StartOption,
    profile: Annotated[Profile, typer.Option(help="preset")] = "cpu",
    epochs: Annotated[
        float, typer.Option(min=0, help="of the variants with n=4; the others see as many faces")
    ] = 1.0,
    limit: Annotated[int, typer.Option(min=0, help="people of each; 0 is all")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="of all variants")] = 1,
    cache: CacheOption = None,
    warm: Annotated[Path | None, typer.Option(help="shared warm start (OUT/warm)")] = None,
) -> None:
    """Train the variants one after another and write ablation.json and a table."""
    console = Console(width=200)
    outcomes: list[Outcome] = []
    for name, changes in VARIANTS.items():
        chosen: dict[str, Any] = {"limit": limit, "seed": seed, **changes}
        # As many steps, and so as many faces, for all: an epoch passes each person once.
        chosen["epochs"] = epochs * changes["people"] / (FACES // 4)
        options = profile_options(profile, chosen)
        trainer = Trainer(
            options, data, out / _folder(name), cache or out / "cache", start, warm or out / "warm"
        )
        mine, teacher = run_variant(trainer, name)
        outcomes = [*outcomes, mine] if outcomes else [teacher, mine]
        facts = [asdict(outcome) for outcome in outcomes]
        (out / "ablation.json").write_text(json.dumps(facts, indent=2) + "\n")
    console.print(outcome_table(outcomes))


def _folder(name: str) -> str:
    return name.replace("=", "").replace(", ", "-").replace(" ", "-").lower()


if __name__ == "__main__":
    app()
