"""`mien evaluate`: a model on a list of pairs, whole pictures in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from models.zoo import Zoo
from services.cli.context import command_settings, run
from services.cli.faces import JsonOption
from services.cli.output import counting, out, print_json
from services.evaluation.extract import Extraction, ExtractionPlan, extract
from services.evaluation.pairs import read_pairs
from services.evaluation.record import record
from services.evaluation.verification import as_json as report_json
from services.evaluation.verification import pictures_of, plot, report
from services.gateway.faces import FaceChoice, Selection
from services.local import local_mien


def add_commands(app: typer.Typer) -> None:
    """Adds the commands to the root."""
    app.command()(evaluate)


def evaluate(
    images: Annotated[Path, typer.Option(exists=True, file_okay=False, help="Picture folder.")],
    pairs: Annotated[
        Path, typer.Option(exists=True, dir_okay=False, help="TSV: fold path1 path2 same.")
    ],
    model: Annotated[str, typer.Option(help="Embedder as name or name@version.")],
    face: Annotated[
        Selection, typer.Option(help="Which face; benchmarks put the subject in the middle.")
    ] = Selection.CENTRAL,
    cache: Annotated[Path | None, typer.Option(help="Keep embeddings here.")] = None,
    plots: Annotated[
        Path | None, typer.Option("--plot", help="Draw ROC and DET curves into this folder.")
    ] = None,
    data: Annotated[
        str,
        typer.Option(
            "--record", help="Put the figures into the card, under this description of the data."
        ),
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """Measure a model on pairs of pictures, through the real pipeline.

    Prints fold accuracy and its standard error, TAR at FMR 1e-2 and 1e-3 (all in percent), EER and
    failures to enrol (fractions), and pictures per second. Intervals are 95 %, by person.
    """
    settings = command_settings()
    listed = read_pairs(pairs)
    paths = pictures_of(listed)

    async def work() -> Extraction:
        async with local_mien(settings, (model,)) as mien:
            with counting(f"embedding with {model}", len(paths)) as advance:
                plan = ExtractionPlan(images, paths, model, FaceChoice(face), cache)
                return await extract(mien, settings, plan, advance)

    extraction = run(work())
    found, scored = report(listed, extraction)
    result = report_json(found, extraction)
    if plots is not None:
        result["plots"] = [str(path) for path in plot(plots, extraction.model, scored)]
    if data:
        zoo = Zoo(settings.home)
        command = (
            f"mien evaluate --images {images.parent.name}/{images.name} "
            f"--pairs {pairs.parent.name}/{pairs.name} --model {extraction.model}"
        )
        record(zoo, zoo.embedder(extraction.model), result, data, command)
    if as_json:
        print_json(result)
        return
    out.print(_table(result))


def _table(result: dict[str, Any]) -> Table:
    table = Table("figure", "value", "95 % interval")

    def row(name: str, value: str, interval: list[float] | None) -> None:
        table.add_row(name, value, "" if interval is None else f"{interval[0]} to {interval[1]}")

    row("model", str(result["model"]), None)
    row("pairs", f"{result['pairs']:,} in {result['folds']} folds", None)
    accuracy = f"{result['accuracy']:.2f} % ± {result['accuracy_se']:.2f} (standard error)"
    row("accuracy", accuracy, result["accuracy_interval"])
    for target, value in result["tar_at_fmr"].items():
        row(f"TAR at FMR {target}", f"{value:.2f} %", result["tar_interval"].get(target))
    row("EER", f"{result['eer']:.4f}", None)
    failed = f"{result['fte']:.4f} ({result['failed_pictures']} of {result['pictures']:,} pictures)"
    row("failures to enrol", failed, None)
    row("pictures per second", f"{result['images_per_second']:.0f}", None)
    return table
