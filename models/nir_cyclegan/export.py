"""Export: both averaged generators as ONNX, and what F gains on held-out people.

Either file takes `image` (B,3,112,112), RGB, -1 to 1, any batch, and gives `enhanced` of the same
shape and range; of `vis2nir.onnx` the three channels are equal. The histogram of a picture must be
equalised before it goes in exactly where `gain.json` says so (`pictures.equalised`).
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console

from models.ddat.degradations import FULL_SIDE
from models.nir_cyclegan.figures import DomainFigures, Measured, measured_table
from models.nir_cyclegan.network import Served
from models.nir_cyclegan.options import TrainOptions
from models.nir_cyclegan.pictures import Equalisation, Operation, equalises_input
from models.nir_cyclegan.report import Examination, Translators, judged_by
from models.nir_cyclegan.train import build_generators
from models.training.checkpoint import CHECKPOINT, RECORD, load_checkpoint, read_options
from models.training.facts import plain
from models.training.gains import RESAMPLES
from models.training.onnx_export import Precision, sample_pictures, write_onnx
from models.training.people import load_people
from models.training.verifier import load_frozen
from models.zoo.enhancer_card import GainPoint, helps_from
from models.zoo.fetch import file_sha256

MODEL_FILES: dict[Operation, str] = {"nir2vis": "nir2vis.onnx", "vis2nir": "vis2nir.onnx"}
GAIN_FILE = "gain.json"
SAMPLES = 4
SIDES = [FULL_SIDE, 80, 56, 40, 28, 20]
"""At which the gate is measured, px."""

app = typer.Typer(help="NIR CycleGAN: export a trained run.", add_completion=False)


def load_translators(run: Path, share: float = 1.0) -> tuple[Translators, TrainOptions]:
    """The averaged generators of a run's folder as they are served, on the CPU, and its options.

    Args:
        run: the folder.
        share: of what F draws; the rest is the picture as it was.
    """
    options = read_options(run / RECORD, TrainOptions)
    averages = load_checkpoint(run / CHECKPOINT)["averages"]
    forth, back = build_generators(options)
    forth.load_state_dict(averages["vis2nir"])
    back.load_state_dict(averages["nir2vis"])
    return (
        Translators(
            Served(back, options.side, grey=False, share=share).eval(),
            Served(forth, options.side, grey=True).eval(),
            options.he,
            torch.device("cpu"),
        ),
        options,
    )


def preparation_facts(he: Equalisation) -> dict[str, dict[str, object]]:
    """What goes into each file and what comes out, for whoever serves it."""
    return {
        operation: {
            "file": name,
            "colours": "RGB",
            "range": [-1.0, 1.0],
            "side": FULL_SIDE,
            "template": "arcface",
            "equalise_input": equalises_input(operation, he),
            "output_equalised": equalises_input(
                "vis2nir" if operation == "nir2vis" else "nir2vis", he
            ),
            "equalisation": "Y of YCrCb, 256 levels, before scaling",
        }
        for operation, name in MODEL_FILES.items()
    }


def gain_facts(measured: Measured, points: list[GainPoint], verifier: Path) -> dict[str, Any]:
    """One verifier's figures as a card keeps them: rates as fractions, NaN as null."""
    return {
        "verifier": verifier.name,
        "verifier_sha256": file_sha256(verifier),
        "simulated": True,
        "probe": "one face of each pair turned to the domain, the other visible; all pairs of "
        "held-out people",
        "faces": measured.faces,
        "people": measured.people,
        "clean": plain(asdict(measured.clean)),
        "cycle_identity": measured.cycle_identity,
        "drawn_identity": measured.drawn_identity,
        "nir_frechet": measured.nir_frechet,
        "helps": {found.domain: helps(found) for found in measured.domains},
        "harms": {found.domain: harms(found) for found in measured.domains},
        "helps_from_eyes_px": helps_from(points),
        "gains": [point.model_dump() for point in points],
        "domains": [plain(asdict(found)) for found in measured.domains],
    }


def helps(found: DomainFigures) -> bool:
    """Whether translation is certain to gain: every gain's interval lies above 0."""
    return bool(found.gains) and all(gain.gain.low > 0 for gain in found.gains)


def harms(found: DomainFigures) -> bool:
    """Whether translation is certain to lose at a false-match rate: an interval lies below 0."""
    return any(gain.gain.high < 0 for gain in found.gains)


@app.command()
def export(
    run: Annotated[Path, typer.Option(exists=True, file_okay=False, help="folder of a run")],
    out: Annotated[Path, typer.Option(help=f"folder for both files and {GAIN_FILE}")],
    precision: Annotated[Precision, typer.Option(help="of the stored weights")] = "fp16",
    share: Annotated[
        float, typer.Option(min=0, max=1, help="of what F draws; the rest is the picture as it was")
    ] = 1.0,
    start: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="teacher's file, for --data"),
    ] = None,
    judge: Annotated[
        list[Path] | None,
        typer.Option(exists=True, dir_okay=False, help="verifiers that took no part; repeatable"),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            exists=True, file_okay=False, help="training data: measure on held-out people"
        ),
    ] = None,
    cache: Annotated[Path | None, typer.Option(help="decoded faces (OUT/cache)")] = None,
    faces: Annotated[int, typer.Option(min=0, help="held-out faces to measure; 0 is all")] = 0,
    side: Annotated[
        list[int] | None, typer.Option(min=12, max=FULL_SIDE, help="of the gate; repeatable")
    ] = None,
    resamples: Annotated[int, typer.Option(min=1, help="of the intervals")] = RESAMPLES,
) -> None:
    """Write a run's generators as ONNX, compare them with torch, and measure the gain."""
    sides = side or SIDES
    if data is not None and start is None:
        raise typer.BadParameter("--data needs --start")
    translators, options = load_translators(run, share)
    images = {"image": sample_pictures(SAMPLES, FULL_SIDE) / 127.5 - 1}
    for operation, name in MODEL_FILES.items():
        network = translators.nir2vis if operation == "nir2vis" else translators.vis2nir
        made = write_onnx(network, out / name, images, ["enhanced"], precision)
        typer.echo(str(made))
    record = json.loads((run / RECORD).read_text())
    facts: dict[str, Any] = {
        "full_side": FULL_SIDE,
        "he": options.he,
        "perc": record["perc"],
        "near_infrared": record["near_infrared"],
        "share": share,
        "networks": preparation_facts(options.he),
        "verifiers": [],
    }
    if data is not None and start is not None:
        people = load_people(options, data, cache or out / "cache", start)
        if people.validation is None:
            raise typer.BadParameter("--data holds nobody who is held out")
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        moved = translators._replace(
            nir2vis=translators.nir2vis.to(device),
            vis2nir=translators.vis2nir.to(device),
            device=device,
        )
        for path in [start, *(judge or [])]:
            verifier = load_frozen(path, device)
            pairs = people.validation
            if path != start:
                pairs = judged_by(verifier, people.faces, pairs, device)
            examination = Examination(people.faces, pairs, verifier, faces)
            measured = examination.of(moved, resamples)
            points = examination.by_size(moved, sides, resamples)
            facts["verifiers"].append(gain_facts(measured, points, path))
            Console(width=160).print(measured_table(measured, path.stem))
    (out / GAIN_FILE).write_text(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    app()
