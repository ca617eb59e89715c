"""The ablation in one command: what each part of DDAT brings, judged on source and target.

Every variant starts from the same weights and sees as many faces. Each is measured on the held-out
people with intervals over people: smaller differences say nothing.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from models.ddat.degradations import DomainName
from models.ddat.export import load_generator
from models.ddat.figures import QUICK_SIDES, Measured
from models.ddat.options import Profile, profile_options
from models.ddat.report import Examination
from models.ddat.train import Trainer
from models.evaluation.bootstrap import Interval
from models.training.gains import RESAMPLES
from models.training.options_cli import CacheOption, DataOption, RunOption, StartOption
from models.training.validation import TARGET_FMR, shown

DOMAINS: tuple[DomainName, ...] = ("source", "target")

SOURCE_ALONE: dict[str, Any] = {
    "identity_weight": 0.0, "feature_weight": 0.0, "adaptor_weight": 0.0, "target_weight": 0.0,
    "consistency_weight": 0.0, "vat_weight": 0.0,
}  # fmt: skip
ADAPTED = {k: v for k, v in SOURCE_ALONE.items() if k not in ("adaptor_weight", "target_weight")}
CONSISTENT = {k: v for k, v in ADAPTED.items() if k != "consistency_weight"}
FULL = {k: v for k, v in CONSISTENT.items() if k != "vat_weight"}

VARIANTS: dict[str, dict[str, Any]] = {
    "G, source alone": SOURCE_ALONE,
    "+ adaptor": ADAPTED,
    "+ consistency": CONSISTENT,
    "+ VAT (full)": FULL,
    "full, no centre loss": {**FULL, "centre_weight": 0.0},
    "full, paper's input": {**FULL, "upsampling": "nearest", "residual": False},
    "+ teacher (ours)": {},
    "G and teacher, no GAN": {
        **SOURCE_ALONE, "adversarial_weight": 0.0, "pretrain": 1.0, "identity_weight": None,
        "feature_weight": None,
    },
}  # fmt: skip
"""What each variant changes in the options of the profile; None leaves the profile's value."""

GLANCED_AT = 60
"""Held-out faces in a variant's own validations; its row is measured on all that were asked for."""

app = typer.Typer(help="DDAT: ablation of its parts.", add_completion=False)


@dataclass(frozen=True)
class Outcome:
    """One row of the table.

    Attributes:
        name: a key of `VARIANTS`, or an up-sampling, or "both good".
        tar: by "source 16" and the like, at `TARGET_FMR`, 95 % interval over people.
        identity: mean cosine to the same face when good, per domain.
        frechet: distance in the teacher's space, per domain.
        psnr: dB, source alone.
        probe: accuracy of a linear probe for the domain; NaN without a generator.
    """

    name: str
    tar: dict[str, Interval]
    identity: dict[str, float]
    frechet: dict[str, float]
    psnr: float
    probe: float


def changes_of(variant: str) -> dict[str, Any]:
    """The options that a variant changes."""
    return {name: value for name, value in VARIANTS[variant].items() if value is not None}


def run_variant(
    trainer: Trainer, name: str, examination: Examination, resamples: int = RESAMPLES
) -> tuple[Outcome, Outcome, Outcome]:
    """Train and measure one variant.

    Args:
        trainer: of the variant.
        name: of it.
        examination: shared by all variants.
        resamples: of the intervals.

    Returns:
        The outcomes of nearest and cubic up-sampling, and of the variant, on the same pairs.
    """
    trainer.run_to_end()
    generator, options = load_generator(trainer.out)
    measured = examination.of(
        generator.to(trainer.device), trainer.device, options.upsampling, DOMAINS, QUICK_SIDES,
        resamples,
    )  # fmt: skip
    return (
        outcome_of(measured, "nearest", "nearest"),
        outcome_of(measured, "bicubic", "bicubic"),
        outcome_of(measured, name, "enhanced"),
    )


def outcome_of(measured: Measured, name: str, method: str) -> Outcome:
    """One method's row; nearest up-sampling comes without intervals."""
    tar: dict[str, Interval] = {}
    identity: dict[str, float] = {}
    frechet: dict[str, float] = {}
    for domain in DOMAINS:
        points = [point for point in measured.points if point.domain == domain]
        for point in points:
            plain = point.methods[method].verification.tar_1e2
            span = Interval(plain, float("nan"), float("nan"), 0.95, 0)
            for gain in point.gains:
                if gain.fmr == TARGET_FMR and method != "nearest":
                    span = gain.made if method == "enhanced" else gain.base
            tar[f"{domain} {point.side}"] = span
        ways = [point.methods[method] for point in points]
        identity[domain] = sum(way.identity for way in ways) / len(ways)
        frechet[domain] = sum(way.teacher_frechet for way in ways) / len(ways)
    pixels = [p.methods[method].psnr for p in measured.points if p.domain == "source"]
    probe = measured.probe_accuracy if method == "enhanced" else float("nan")
    return Outcome(name, tar, identity, frechet, sum(pixels) / len(pixels), probe)


def outcome_table(outcomes: list[Outcome], clean: float) -> Table:
    """One row per variant; the caption says what two good faces reach.

    Args:
        outcomes: rows.
        clean: TAR of pairs of two good faces, at `TARGET_FMR`.
    """
    title = f"simulated domains; TAR at a false-match rate of {TARGET_FMR:g} [95 % over people]"
    table = Table(title=title)
    table.add_column("variant")
    places = list(outcomes[0].tar)
    per_domain = [f"{what}, {domain}" for what in ("identity", "Frechet") for domain in DOMAINS]
    for name in (*(f"{place} px" for place in places), *per_domain, "PSNR", "domain probe"):
        table.add_column(name, justify="right")
    for outcome in outcomes:
        table.add_row(
            outcome.name,
            *(shown(outcome.tar[place]) for place in places),
            *(f"{outcome.identity[domain]:.3f}" for domain in DOMAINS),
            *(f"{outcome.frechet[domain]:.3f}" for domain in DOMAINS),
            f"{outcome.psnr:.2f}",
            f"{outcome.probe:.3f}",
        )
    table.caption = f"two good faces: {clean:.3f}"
    return table


@app.command()
def ablate(
    data: DataOption,
    out: RunOption,
    start: StartOption,
    profile: Annotated[Profile, typer.Option(help="preset")] = "cpu",
    epochs: Annotated[float, typer.Option(min=0, help="of each variant")] = 0.5,
    limit: Annotated[int, typer.Option(min=0, help="source faces of each; 0 is all")] = 0,
    faces: Annotated[int, typer.Option(min=0, help="held-out faces to measure; 0 is all")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="of all variants")] = 1,
    cache: CacheOption = None,
) -> None:
    """Train the variants one after another and write ablation.json and a table."""
    console = Console(width=220)
    outcomes: list[Outcome] = []
    clean = float("nan")
    examination: Examination | None = None
    for name in VARIANTS:
        size = {"epochs": epochs, "limit": limit, "validate_faces": GLANCED_AT}
        chosen = {**size, "seed": seed, **changes_of(name)}
        options = profile_options(profile, chosen)
        trainer = Trainer(options, data, out / _folder(name), cache or out / "cache", start)
        examination = examination or _examination(trainer, faces)
        nearest, bicubic, mine = run_variant(trainer, name, examination)
        outcomes = [*outcomes, mine] if outcomes else [nearest, bicubic, mine]
        clean = examination.clean().tar_1e2
        facts = {"clean_tar": clean, "outcomes": [asdict(outcome) for outcome in outcomes]}
        (out / "ablation.json").write_text(json.dumps(facts, indent=2) + "\n")
    console.print(outcome_table(outcomes, clean))


def _examination(trainer: Trainer, faces: int) -> Examination:
    if trainer.people.validation is None:
        raise typer.BadParameter("--data holds nobody who is held out")
    teacher = trainer.networks.verifier.trunk
    return Examination(trainer.people.faces, trainer.people.validation, teacher, faces)


def _folder(name: str) -> str:
    kept = "".join(c if c.isalnum() else " " for c in name.lower())
    return "-".join(kept.split())


if __name__ == "__main__":
    app()
