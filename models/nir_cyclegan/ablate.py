"""The seed's experiment and the verification rows in one command.

Each variant's generators are trained from the same seed on as many faces. G is judged by a
recogniser that its drawings help to train, F by verification of near-infrared faces. Near infrared
is simulated, intervals are over people: smaller differences say nothing.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from models.evaluation.bootstrap import Interval
from models.nir_cyclegan.command import VggOption
from models.nir_cyclegan.export import load_translators
from models.nir_cyclegan.figures import Measured
from models.nir_cyclegan.options import PUBLISHED, Profile, profile_options
from models.nir_cyclegan.recogniser import Experiment
from models.nir_cyclegan.report import Examination
from models.nir_cyclegan.simulated import DOMAINS, DomainName
from models.nir_cyclegan.train import Trainer
from models.training.facts import plain
from models.training.gains import RESAMPLES
from models.training.options_cli import CacheOption, DataOption, RunOption, StartOption
from models.training.validation import shown

A = {**PUBLISHED, "he": "off", "perceptual_weight": 0.0}
B = {**A, "he": "vis_domain"}
C = dict(PUBLISHED)
RESIDUAL = {**C, "residual": True, "grey": True}

VARIANTS: dict[str, dict[str, Any]] = {
    "CycleGAN, not aligned": {**A, "aligned": False},
    "A: aligned": A,
    "B: + equalised": B,
    "C: + perceptual (published)": C,
    "C + residual": RESIDUAL,
    "+ identity (ours)": {"feature_weight": 0.0},
    "+ feature maps (ours)": {},
}
"""What each variant changes in the options of the profile; the paper's A, B and C among them."""

GLANCED_AT = 60
"""Held-out faces in a variant's own validations; its row is measured on all that were asked for."""

NOTHING = "real only, not translated"
FMR = 1e-3

app = typer.Typer(help="NIR CycleGAN: the paper's experiment and ours.", add_completion=False)


@dataclass(frozen=True)
class Outcome:
    """One row of the table.

    Attributes:
        name: a key of `VARIANTS`, or `NOTHING`.
        top1: of the recogniser that saw G's drawings, by domain of the probes.
        tar: at a false-match rate of 1e-3, by domain, F's drawings against visible faces.
        cycle_identity: mean cosine of F(G(x)) to x; NaN without generators.
        nir_frechet: distance of G(x) to near infrared; NaN without generators.
    """

    name: str
    top1: dict[DomainName, Interval]
    tar: dict[DomainName, Interval]
    cycle_identity: float
    nir_frechet: float


def outcome_of(measured: Measured, name: str, top1: dict[DomainName, Interval]) -> Outcome:
    """A row: of the generators measured, or for `NOTHING` of the faces as they are."""
    plainly = name == NOTHING
    tar = {
        found.domain: gain.base if plainly else gain.made
        for found in measured.domains
        for gain in found.gains
        if gain.fmr == FMR
    }
    nan = float("nan")
    return Outcome(
        name,
        top1,
        tar,
        nan if plainly else measured.cycle_identity,
        nan if plainly else measured.nir_frechet,
    )


def outcome_table(outcomes: list[Outcome]) -> Table:
    """One row per variant."""
    title = "simulated near infrared [95 % over people]"
    table = Table(title=title)
    table.add_column("variant")
    probes = list(outcomes[0].top1)
    for name in (*(f"top-1, {p}" for p in probes), *(f"TAR {FMR:g}, {d}" for d in DOMAINS)):
        table.add_column(name, justify="right")
    for name in ("F(G(x)) identity", "G(x) Frechet"):
        table.add_column(name, justify="right")
    for outcome in outcomes:
        table.add_row(
            outcome.name,
            *(shown(outcome.top1[probe]) for probe in probes),
            *(shown(outcome.tar[domain]) for domain in DOMAINS),
            f"{outcome.cycle_identity:.3f}",
            f"{outcome.nir_frechet:.3f}",
        )
    return table


@app.command()
def ablate(
    data: DataOption,
    out: RunOption,
    start: StartOption,
    profile: Annotated[Profile, typer.Option(help="preset")] = "cpu",
    epochs: Annotated[float, typer.Option(min=0, help="of each variant")] = 0.25,
    limit: Annotated[int, typer.Option(min=0, help="visible faces of each; 0 is all")] = 0,
    width: Annotated[int, typer.Option(min=0, help="ngf of each; 0 is the profile's")] = 0,
    faces: Annotated[int, typer.Option(min=0, help="held-out faces to measure; 0 is all")] = 0,
    shots: Annotated[int, typer.Option(min=0, help="near-infrared faces per person known")] = 1,
    least: Annotated[int, typer.Option(min=2, help="faces of a person to be named")] = 4,
    seeds: Annotated[int, typer.Option(min=1, help="splits and heads of the recogniser")] = 3,
    resamples: Annotated[int, typer.Option(min=1, help="of the intervals")] = RESAMPLES,
    seed: Annotated[int, typer.Option(min=0, help="of all generators")] = 1,
    cache: CacheOption = None,
    vgg16: VggOption = None,
) -> None:
    """Train the variants one after another and write ablation.json and a table."""
    outcomes: list[Outcome] = []
    examination: Examination | None = None
    experiment: Experiment | None = None
    for name, changes in VARIANTS.items():
        size = {"epochs": epochs, "limit": limit, "validate_faces": GLANCED_AT}
        size |= {"width": width} if width else {}
        chosen = {**size, "seed": seed, **changes}
        options = profile_options(profile, chosen)
        trainer = Trainer(options, data, out / _folder(name), cache or out / "cache", start, vgg16)
        examination = examination or _examination(trainer, faces)
        experiment = experiment or Experiment(examination, trainer.device, shots, least, seeds)
        trainer.run_to_end()
        translators, _ = load_translators(trainer.out)
        translators = translators._replace(
            nir2vis=translators.nir2vis.to(trainer.device),
            vis2nir=translators.vis2nir.to(trainer.device),
            device=trainer.device,
        )
        measured = examination.of(translators, resamples)
        if not outcomes:
            outcomes.append(outcome_of(measured, NOTHING, experiment.top1(None, resamples)))
        outcomes.append(outcome_of(measured, name, experiment.top1(translators, resamples)))
        _write(out, measured, outcomes)
    Console(width=220).print(outcome_table(outcomes))


def _write(out: Path, measured: Measured, outcomes: list[Outcome]) -> None:
    facts = {
        "simulated": True,
        "clean": asdict(measured.clean),
        "faces": measured.faces,
        "people": measured.people,
        "outcomes": [asdict(outcome) for outcome in outcomes],
    }
    (out / "ablation.json").write_text(json.dumps(plain(facts), indent=2) + "\n")


def _examination(trainer: Trainer, faces: int) -> Examination:
    if trainer.people.validation is None:
        raise typer.BadParameter("--data holds nobody who is held out")
    return Examination(
        trainer.people.faces, trainer.people.validation, trainer.networks.eyes.trunk, faces
    )


def _folder(name: str) -> str:
    kept = "".join(c if c.isalnum() else " " for c in name.lower())
    return "-".join(kept.split())


if __name__ == "__main__":
    app()
