"""`mien models`: list, show, pull, add and calibrate."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from models.zoo import AnyCard, EmbedderCard, ModelThreshold, Zoo, ZooError, kind_of
from services.cli.alterations import ProbeLightOption, ProbeSideOption
from services.cli.context import command_settings, run
from services.cli.faces import JsonOption
from services.cli.output import counting, downloading, out, print_json
from services.embedding import probe_embedder
from services.evaluation.alteration import Alteration, Light
from services.evaluation.calibration import fit, for_card, picture_set
from services.evaluation.extract import Extraction, ExtractionPlan, extract
from services.gateway.faces import FaceChoice, Selection
from services.local import local_mien
from services.mapping import probe_map

app = typer.Typer(help="The models: list, show, pull, add, calibrate.", no_args_is_help=True)

NameArgument = Annotated[str, typer.Argument(help="Model as name or name@version.")]


@app.command("list")
def list_models(as_json: JsonOption = False) -> None:
    """List every known model, and whether its weights are here."""
    zoo = Zoo(command_settings().home)
    rows = [
        {
            "model": card.reference,
            "kind": card.kind,
            "title": card.title,
            "licence": card.licence,
            "weights_here": _is_here(zoo, card),
        }
        for card in zoo.cards()
    ]
    if as_json:
        print_json({"models": rows})
        return
    table = Table("model", "kind", "title", "licence", "weights")
    for row in rows:
        table.add_row(
            str(row["model"]),
            str(row["kind"]),
            str(row["title"]),
            str(row["licence"]),
            "here" if row["weights_here"] else "not pulled",
        )
    out.print(table)


@app.command()
def show(model: NameArgument) -> None:
    """Print a model's card as JSON."""
    card = Zoo(command_settings().home).card(model)
    sys.stdout.write(card.model_dump_json(indent=2) + "\n")


@app.command()
def pull(
    models: Annotated[
        list[str] | None,
        typer.Argument(help="Models; if none, all but those that are pulled on request."),
    ] = None,
) -> None:
    """Download weights that are missing, check their SHA-256, convert them if need be."""
    zoo = Zoo(command_settings().home)
    usual = [card for card in zoo.cards() if not card.weights.on_request]
    for card in [zoo.card(model) for model in models] if models else usual:
        with downloading(card.reference) as progress:
            zoo.pull(card, progress)
        out.print(
            f"{card.reference}: here, {card.weights.size_bytes / 1e6:.1f} MB, SHA-256 checked"
        )
    zoo.discard_archives()


@app.command()
def add(
    weights: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="ONNX file.")],
    card: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="Card, JSON.")],
    as_json: JsonOption = False,
) -> None:
    """Register an embedder or a map of your own from an ONNX file and a card.

    An embedder's card needs `name` and `output.dimension`; docs/models.md lists the rest. A map's
    card is what `mien mapping fit` wrote beside the file (docs/mapping.md).
    """
    zoo = Zoo(command_settings().home)
    if kind_of(card) == "map":
        made = zoo.add_map(weights, card, probe_map)
        if as_json:
            sys.stdout.write(made.model_dump_json(indent=2) + "\n")
            return
        out.print(
            f"{made.reference} is registered: {made.source.reference} to {made.target.reference}. "
            "To be served: mien serve mapping"
        )
        return
    added = zoo.add(weights, card, probe_embedder)
    if as_json:
        sys.stdout.write(added.model_dump_json(indent=2) + "\n")
        return
    out.print(f"{added.reference} is registered. To be served: MIEN_EMBEDDING__MODELS")
    if not added.thresholds:
        out.print(f"It has no thresholds yet: mien models calibrate {added.reference} --images DIR")


@app.command()
def calibrate(
    model: NameArgument,
    images: Annotated[
        list[Path],
        typer.Option(exists=True, file_okay=False, help="A folder for each person; repeatable."),
    ],
    face: Annotated[Selection, typer.Option(help="Which face.")] = Selection.CENTRAL,
    probe_side: ProbeSideOption = 0,
    probe_light: ProbeLightOption = Light.AS_IT_IS,
    enhancer: Annotated[
        str, typer.Option(help="Whose card takes the thresholds; needs altered first pictures.")
    ] = "",
    cache: Annotated[Path | None, typer.Option(help="Keep embeddings here.")] = None,
    data: Annotated[str, typer.Option(help="What the pictures are, for the card.")] = "",
    write: Annotated[bool, typer.Option(help="Put the thresholds into the card.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Fit thresholds for FMR 1e-2, 1e-3 and 1e-4 on all cross-person comparisons of pictures.

    With first pictures altered and an enhancer, they are for comparisons with a face that it has
    enhanced, and go into its card.
    """
    settings = command_settings()
    zoo = Zoo(settings.home)
    card = zoo.embedder(model)
    alteration = Alteration(probe_side, probe_light)
    if bool(alteration) != bool(enhancer):
        raise typer.BadParameter("--enhancer goes with --probe-side or --probe-light")
    sets = [picture_set(root) for root in images]

    async def work() -> list[Extraction]:
        made = []
        async with local_mien(settings, (model,)) as mien:
            for one in sets:
                paths = list(dict.fromkeys([*one.paths, *map(alteration.named, one.paths)]))
                with counting(f"embedding {one.root.name}", len(paths)) as advance:
                    plan = ExtractionPlan(one.root, paths, model, FaceChoice(face), cache)
                    made.append(await extract(mien, settings, plan, advance))
        return made

    extractions = run(work())
    fitted = fit(extractions, alteration)
    described = data or " and ".join(f"{one.root.parent.name}/{one.root.name}" for one in sets)
    command = f"mien models calibrate {card.reference} " + " ".join(
        f"--images {one.root.parent.name}/{one.root.name}" for one in sets
    )
    if enhancer:
        command += f"{alteration.flags()} --enhancer {enhancer}"
    thresholds = for_card(fitted, described, command)
    if write:
        _write(zoo, card, enhancer, thresholds)
    rows = [threshold.model_dump(mode="json") for threshold in thresholds]
    failed = sum(len(extraction.failures) for extraction in extractions)
    if as_json:
        print_json({"model": card.reference, "thresholds": rows, "failed_pictures": failed})
        return
    table = Table("FMR", "threshold", "95 % interval", "comparisons", "people", "pictures")
    for row in thresholds:
        table.add_row(
            f"{row.fmr:g}",
            f"{row.similarity:.4f}",
            f"{row.interval[0]:.4f} to {row.interval[1]:.4f}",
            f"{row.impostor_comparisons:,}",
            f"{row.people:,}",
            f"{row.images:,}",
        )
    out.print(table)
    out.print(f"{failed} pictures without a usable face were left out.")


def _write(zoo: Zoo, card: EmbedderCard, enhancer: str, thresholds: list[ModelThreshold]) -> None:
    """Into the embedder's own card, or into an enhancer's gate for it."""
    fitted = {"thresholds": tuple(thresholds)}
    if not enhancer:
        zoo.save(card.model_copy(update=fitted))
        return
    mender = zoo.enhancer(enhancer)
    measured = [gate for gate in mender.gates if gate.embedder == card.reference]
    if not measured:
        raise typer.BadParameter(f"{mender.reference} has no gate for {card.reference}")
    gates = tuple(
        gate.model_copy(update=fitted) if gate in measured else gate for gate in mender.gates
    )
    zoo.save(mender.model_copy(update={"gates": gates}))


def _is_here(zoo: Zoo, card: AnyCard) -> bool:
    try:
        zoo.weights(card)
    except ZooError:  # missing, or not the file that the card names
        return False
    return True
