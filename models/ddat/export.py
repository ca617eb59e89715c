"""Export: the averaged generator as ONNX, and the measured curve that its card quotes.

The file takes `image` (B,3,112,112), RGB, -1 to 1, any batch: what `degradations.network_input`
makes of a face of few pixels with the run's way of up-sampling. It gives `enhanced`, of the same
shape and range. Adaptor, discriminator and classifier stay behind. With `--verifier` the run's V is
written too, as an embedder: `data` (B,3,112,112), RGB, 0-255, to `embedding` (B,d).
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from torch import Tensor, nn

from models.ddat.degradations import FULL_SIDE, DomainName
from models.ddat.figures import SIDES, Measured, measured_table
from models.ddat.network import Generator, Translated
from models.ddat.options import TrainOptions
from models.ddat.report import DOMAINS, Examination
from models.ddat.sheets import draw_curve
from models.ddat.train import build_generator
from models.ddat.verifier import Verifier
from models.training.checkpoint import CHECKPOINT, RECORD, load_checkpoint, read_options
from models.training.facts import plain
from models.training.gain_points import gain_points
from models.training.gains import RESAMPLES
from models.training.onnx_export import Precision, sample_pictures, write_onnx
from models.training.people import load_people
from models.training.verifier import load_frozen
from models.zoo.enhancer_card import helps_below
from models.zoo.fetch import file_sha256

MODEL_FILE, VERIFIER_FILE = "ddat.onnx", "verifier.onnx"
CURVE_FILE, CURVE_PICTURE = "curve.json", "curve.png"
SAMPLES = 4

app = typer.Typer(help="DDAT: export a trained run.", add_completion=False)


class Served(nn.Module):
    """The generator without its bottleneck: a plain tensor, as a graph's output must be."""

    def __init__(self, generator: nn.Module):
        super().__init__()
        self.generator = generator

    def forward(self, image: Tensor) -> Tensor:
        """(B,3,112,112) RGB -1 to 1 -> the same, enhanced."""
        made: Translated = self.generator(image)
        return made.image


def load_generator(run: Path) -> tuple[Generator, TrainOptions]:
    """The averaged generator of a run's folder, and the run's options."""
    options = read_options(run / RECORD, TrainOptions)
    generator = build_generator(options)
    generator.load_state_dict(load_checkpoint(run / CHECKPOINT)["average"])
    return generator.eval(), options


def load_verifier(run: Path, options: TrainOptions, start: Path) -> Verifier:
    """V of a run's folder; `start` is the file that the run began from.

    Raises:
        typer.BadParameter: it is another file.
    """
    begun: str = json.loads((run / RECORD).read_text())["teacher_sha256"]
    if begun != file_sha256(start):
        raise typer.BadParameter(f"{start.name} is not the file that the run began from")
    state = load_checkpoint(run / CHECKPOINT)["verifier"]
    verifier = Verifier(start, state["centres"], options.verifier_stages, options.scale)
    verifier.load_own_state(state)
    return verifier.eval()


def curve_facts(measured: Measured, options: TrainOptions, teacher: Path) -> dict[str, Any]:
    """The curve as a card keeps it: rates as fractions, sizes in pixels, NaN as null."""
    gains = [
        found
        for point in measured.points
        for found in gain_points(point.domain, point.side, point.gains)
    ]
    return {
        "verifier": teacher.name,
        "verifier_sha256": file_sha256(teacher),
        "upsampling": options.upsampling,
        "full_side": FULL_SIDE,
        "simulated": True,
        "probe": "one face of each pair degraded, the other good; all pairs of held-out people",
        "faces": measured.faces,
        "people": measured.people,
        "clean": plain(asdict(measured.clean)),
        "domain_probe_accuracy": measured.probe_accuracy,
        "helps_below_eyes_px": {
            domain: helps_below([p for p in gains if p.domain == domain])
            for domain in dict.fromkeys(point.domain for point in measured.points)
        },
        "gains": [point.model_dump() for point in gains],
        "points": [plain(asdict(point)) for point in measured.points],
    }


@app.command()
def export(
    run: Annotated[Path, typer.Option(exists=True, file_okay=False, help="folder of a run")],
    out: Annotated[Path, typer.Option(help=f"folder for {MODEL_FILE} and {CURVE_FILE}")],
    precision: Annotated[Precision, typer.Option(help="of the stored weights")] = "fp16",
    start: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="teacher's file, for --data, --verifier"),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            exists=True, file_okay=False, help="training data: measure on held-out people"
        ),
    ] = None,
    verifier: Annotated[
        bool, typer.Option("--verifier", help="the run's V too, as an embedder; needs --start")
    ] = False,
    cache: Annotated[Path | None, typer.Option(help="decoded faces (OUT/cache)")] = None,
    faces: Annotated[int, typer.Option(min=0, help="held-out faces to measure; 0 is all")] = 0,
    resamples: Annotated[int, typer.Option(min=1, help="of the intervals")] = RESAMPLES,
) -> None:
    """Write a run's generator as ONNX, compare it with torch, and measure its curve."""
    generator, options = load_generator(run)
    images = {"image": sample_pictures(SAMPLES, FULL_SIDE) / 127.5 - 1}
    made = write_onnx(Served(generator), out / MODEL_FILE, images, ["enhanced"], precision)
    typer.echo(str(made))
    if start is None:
        if verifier or data is not None:
            raise typer.BadParameter("--data and --verifier need --start")
        return
    if verifier:
        pictures = {"data": sample_pictures(SAMPLES, FULL_SIDE)}
        embedder = load_verifier(run, options, start).embedder()
        written = write_onnx(embedder, out / VERIFIER_FILE, pictures, ["embedding"], precision)
        typer.echo(str(written))
    if data is None:
        return
    people = load_people(options, data, cache or out / "cache", start)
    if people.validation is None:
        raise typer.BadParameter("--data holds nobody who is held out")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    teacher = load_frozen(start, device)
    examination = Examination(people.faces, people.validation, teacher, faces)
    every: list[DomainName] = list(DOMAINS)
    measured = examination.of(
        generator.to(device), device, options.upsampling, every, SIDES, resamples
    )
    facts = curve_facts(measured, options, start)
    (out / CURVE_FILE).write_text(json.dumps(facts, indent=2) + "\n")
    draw_curve(measured, out / CURVE_PICTURE)
    Console(width=160).print(measured_table(measured, "exported"))


if __name__ == "__main__":
    app()
