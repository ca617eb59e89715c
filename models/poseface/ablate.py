"""The ablation in one command: ArcFace, + PAA, + pose and orthogonality, both.

Every variant starts from the same weights and sees the same faces in the same order. Each is
exported, so that it can be judged on other pairs as well, and measured on the held-out people with
intervals over people: differences smaller than those say nothing.
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

from models.evaluation.bootstrap import Interval
from models.poseface.export import export_onnx, load_trained
from models.poseface.network import serving_network
from models.poseface.options import Profile, TrainOptions, profile_options
from models.poseface.report import validation_figures
from models.poseface.train import Trainer
from models.training.options_cli import CacheOption, DataOption, RunOption
from models.training.teacher import embed
from models.training.validation import BINS, TARGET_FMR, shown, tar_intervals

VARIANTS: dict[str, dict[str, float]] = {
    "arcface": {"margin_gain": 0.0, "pose_weight": 0.0, "orth_weight": 0.0},
    "arcface-paa": {"pose_weight": 0.0, "orth_weight": 0.0},
    "arcface-pose": {"margin_gain": 0.0},
    "poseface": {},
}
"""What each variant changes in the options of the full method."""

app = typer.Typer(help="PoseFace: ablation of its parts.", add_completion=False)


@dataclass(frozen=True)
class Outcome:
    """One variant: TAR with its interval per bin, and the diagnostics.

    Attributes:
        name: a key of `VARIANTS`, or "teacher".
        tar: per bin, at a false-match rate of 1e-2, with a 95 % interval over people.
        figures: `report.FIGURES`; empty for the teacher.
    """

    name: str
    tar: dict[str, Interval]
    figures: dict[str, float]


def run_variant(
    name: str, options: TrainOptions, data: Path, out: Path, cache: Path, sface: Path
) -> tuple[Outcome, Outcome]:
    """Train, export and measure one variant.

    Returns:
        The variant's outcome and the teacher's on the same pairs.

    Raises:
        ValueError: the data have no held-out people.
    """
    trainer = Trainer(options, data, out / name, cache, sface)
    validation = trainer.material.validation
    if validation is None:
        raise ValueError("an ablation needs held-out people")
    trainer.run_to_end()
    network = load_trained(out / name)
    export_onnx(serving_network(network), out / name / "model.onnx")
    faces = trainer.material.faces
    figures, _ = validation_figures(network, faces, validation, amp=False)
    people = np.array(faces.people)[validation.rows]
    with torch.no_grad():
        identity = embed(serving_network(network), faces.crops[validation.rows])
    return (
        Outcome(name, tar_intervals(validation, people, identity), figures),
        Outcome("teacher", tar_intervals(validation, people, validation.teacher), {}),
    )


def outcome_table(outcomes: list[Outcome]) -> Table:
    """One row per variant: TAR and interval per bin, then the diagnostics."""
    table = Table(title=f"TAR at a false-match rate of {TARGET_FMR:g} [95 % interval over people]")
    table.add_column("variant")
    for name in BINS:
        table.add_column(name, justify="right")
    for name in ("|yaw| R2 identity", "yaw R2 pose", "orthogonality"):
        table.add_column(name, justify="right")
    for outcome in outcomes:
        cells = [shown(outcome.tar.get(name)) for name in BINS]
        diagnostics = [
            f"{outcome.figures[key]:.3g}" if key in outcome.figures else "-"
            for key in ("turn_r2_identity", "yaw_r2_pose", "orthogonality")
        ]
        table.add_row(outcome.name, *cells, *diagnostics)
    return table


@app.command()
def ablate(
    data: DataOption,
    out: RunOption,
    sface: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="SFace's ONNX file")],
    profile: Annotated[Profile, typer.Option(help="preset")] = "cpu",
    epochs: Annotated[float, typer.Option(min=0, help="of each variant")] = 1.0,
    limit: Annotated[int, typer.Option(min=0, help="faces of each; 0 is all")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="of all variants")] = 1,
    cache: CacheOption = None,
) -> None:
    """Train the four variants one after another and write ablation.json and a table."""
    console = Console()
    outcomes: list[Outcome] = []
    for name, changes in VARIANTS.items():
        chosen: dict[str, Any] = {"epochs": epochs, "limit": limit, "seed": seed, **changes}
        options = profile_options(profile, chosen)
        mine, teacher = run_variant(name, options, data, out, cache or out / "cache", sface)
        outcomes = [*outcomes, mine] if outcomes else [teacher, mine]
        facts = [asdict(outcome) for outcome in outcomes]
        (out / "ablation.json").write_text(json.dumps(facts, indent=2) + "\n")
    console.print(outcome_table(outcomes))


if __name__ == "__main__":
    app()
