"""`mien evaluate`: a model on a list of pairs, whole pictures in."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.table import Table

from models.zoo import Zoo
from services.cli.alterations import ProbeLightOption, ProbeSideOption
from services.cli.context import command_settings, run
from services.cli.evaluate_fusion import evaluate_fusion
from services.cli.evaluate_migration import evaluate_migration
from services.cli.faces import JsonOption
from services.cli.output import counting, out, print_json
from services.embedding import load_configured
from services.evaluation import PairsError
from services.evaluation.alteration import Alteration, Light, with_altered_probes
from services.evaluation.extract import Extraction, ExtractionPlan, extract
from services.evaluation.groups import group_scores, read_labelled
from services.evaluation.pairs import read_pairs
from services.evaluation.record import record
from services.evaluation.verification import as_json as report_json
from services.evaluation.verification import pictures_of, plot, rates_of_all, report
from services.gateway.faces import FaceChoice, Selection
from services.local import local_mien

_GROUP_BATCH = 64


def add_commands(app: typer.Typer) -> None:
    """Adds the commands to the root."""
    app.command()(evaluate)
    app.command("evaluate-groups")(evaluate_groups)
    app.command("evaluate-fusion")(evaluate_fusion)
    app.command("evaluate-migration")(evaluate_migration)


def evaluate(
    images: Annotated[Path, typer.Option(exists=True, file_okay=False, help="Picture folder.")],
    pairs: Annotated[
        Path, typer.Option(exists=True, dir_okay=False, help="TSV: fold path1 path2 same.")
    ],
    model: Annotated[str, typer.Option(help="Embedder as name or name@version.")],
    face: Annotated[
        Selection, typer.Option(help="Which face; benchmarks put the subject in the middle.")
    ] = Selection.CENTRAL,
    probe_side: ProbeSideOption = 0,
    probe_light: ProbeLightOption = Light.AS_IT_IS,
    enhance: Annotated[
        bool, typer.Option(help="Enhance faces that gain by it, where enhancers are served.")
    ] = True,
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
    alteration = Alteration(probe_side, probe_light)
    listed = with_altered_probes(listed, alteration)
    paths = pictures_of(listed)

    async def work() -> Extraction:
        async with local_mien(settings, (model,)) as mien:
            with counting(f"embedding with {model}", len(paths)) as advance:
                plan = ExtractionPlan(images, paths, model, FaceChoice(face), cache, enhance)
                return await extract(mien, settings, plan, advance)

    extraction = run(work())
    found, scored = report(listed, extraction)
    result = report_json(found, rates_of_all(listed, extraction, scored), extraction)
    if plots is not None:
        result["plots"] = [str(path) for path in plot(plots, extraction.model, scored)]
    if data:
        zoo = Zoo(settings.home)
        command = (
            f"mien evaluate --images {images.parent.name}/{images.name} "
            f"--pairs {pairs.parent.name}/{pairs.name} --model {extraction.model}"
            + alteration.flags()
            + ("" if enhance else " --no-enhance")
        )
        record(zoo, zoo.embedder(extraction.model), result, data, command)
    if as_json:
        print_json(result)
        return
    out.print(_table(result))


def evaluate_groups(
    data: Annotated[
        Path, typer.Option(exists=True, file_okay=False, help="index.tsv beside tars of crops.")
    ],
    model: Annotated[str, typer.Option(help="Embedder as name or name@version.")],
    fmr: Annotated[float, typer.Option(help="Whose threshold on the card is taken.")] = 1e-3,
    as_json: JsonOption = False,
) -> None:
    """Compare false-match rates by age, gender and ethnicity, at one threshold.

    Takes aligned faces with labels and without identities: all comparisons within a group count as
    of two people. Intervals are 95 %, by face.
    """
    settings = command_settings()
    zoo = Zoo(settings.home)
    card = zoo.embedder(model)
    chosen = card.threshold(fmr)
    if chosen is None or card.output.metric != "cosine":
        raise PairsError(f"{card.reference} has no cosine threshold for FMR {fmr:g}.")
    crop = card.input
    if (crop.width, crop.template, crop.template_scale) != (crop.height, "arcface", 1.0):
        raise PairsError(f"{card.reference} takes other crops than the data's.")
    faces = read_labelled(data, card.input.height)
    embedder = load_configured(zoo, model, settings.engine)
    parts = []
    with counting(f"embedding with {card.reference}", len(faces.crops)) as advance:
        for start in range(0, len(faces.crops), _GROUP_BATCH):
            part = faces.crops[start : start + _GROUP_BATCH]
            parts.append(embedder.embed(part))
            advance(len(part))
    embedder.close()
    vectors = np.concatenate(parts)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    scores = group_scores(vectors, faces.groups, chosen.similarity)
    if as_json:
        rows = [asdict(one) for one in scores]
        print_json({"model": card.reference, "threshold": chosen.similarity, "groups": rows})
        return
    table = Table("attribute", "group", "faces", "mean", "deviation", "FMR", "95 % interval")
    for one in scores:
        low, high = one.interval
        table.add_row(
            one.attribute, one.group, f"{one.faces:,}", f"{one.mean:.3f}", f"{one.deviation:.3f}",
            f"{one.fmr:.2e}", f"{low:.2e} to {high:.2e}",
        )  # fmt: skip
    out.print(f"{card.reference}, threshold {chosen.similarity:.4f} (FMR {fmr:g})")
    out.print(table)


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
    every = result["all_comparisons"]
    if every is not None:
        count = f"{every['impostor_comparisons']:,}"
        for target, value in every["tar_at_fmr"].items():
            told = f"TAR at FMR 1 in {1 / float(target):,.0f} of {count} comparisons"
            row(told, f"{value:.2f} %", every["tar_interval"].get(target))
    row("EER", f"{result['eer']:.4f}", None)
    failed = f"{result['fte']:.4f} ({result['failed_pictures']} of {result['pictures']:,} pictures)"
    row("failures to enrol", failed, None)
    row("pictures per second", f"{result['images_per_second']:.0f}", None)
    return table
