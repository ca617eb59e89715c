"""`mien mapping`: fit a map between two embedders, judge it on pictures, apply it to vectors."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from models.r3an.protocol import FMRS, HEADLINE
from models.r3an.verdict import Verdict, verdict_text
from models.zoo import MapCard, Zoo, read_card
from models.zoo.fetch import file_sha256
from services.cli import mapping_apply
from services.cli.context import command_settings, run
from services.cli.faces import JsonOption
from services.cli.output import counting, out, print_json
from services.evaluation import PairsError
from services.evaluation.cross_model import (
    FMR,
    MapAnswer,
    Subject,
    apply_map,
    judge,
    map_conditions,
    map_report,
    native_conditions,
    native_report,
    read_index,
    subject_of,
    verdict,
)
from services.evaluation.cross_pictures import Looked, look, names_below
from services.local import local_mien
from services.settings import SettingsError

app = typer.Typer(
    help="Maps of vectors between embedders: fit, evaluate, list, apply.", no_args_is_help=True
)
mapping_apply.add_commands(app)

CARD_FILE = "card.json"
CANDIDATES = "candidates"
LEAST_FMR = min(FMRS)
VIEWS, BLENDS = 4, 2
"""What a fit sees beside each face and its mirror image, if nothing else is said."""

CPU_EPOCHS = 2.0
"""R3AN's, if nothing else is said: at 45 faces a second, 23 minutes for each of its two forms."""


@app.command()
def fit(
    source: Annotated[str, typer.Option(help="Embedder whose vectors are mapped.")],
    target: Annotated[str, typer.Option(help="Embedder whose space they are mapped to.")],
    images: Annotated[
        Path, typer.Option(exists=True, file_okay=False, help="index.tsv and tars of crops.")
    ],
    out_folder: Annotated[Path, typer.Option("--out", help="Folder of the fit.")] = Path("map"),
    profile: Annotated[str, typer.Option(help="Of R3AN's training: cpu or gpu.")] = "cpu",
    only: Annotated[
        list[str] | None,
        typer.Option(help="Candidates to make; all but mlp-pulled if none. Repeatable."),
    ] = None,
    views: Annotated[
        int, typer.Option(min=0, help="Changed views beside crop and mirror.")
    ] = VIEWS,
    blends: Annotated[
        int, typer.Option(min=0, help="Faces blended from each training face and another.")
    ] = BLENDS,
    epochs: Annotated[
        float | None,
        typer.Option(min=0, help="Of R3AN; if not given 2 with the cpu profile, 100 with gpu."),
    ] = None,
    mlp_epochs: Annotated[float | None, typer.Option(min=0, help="Of the MLPs.")] = None,
    limit: Annotated[int, typer.Option(min=0, help="Faces that R3AN sees; 0 is all.")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Of every training.")] = 1,
    fmr: Annotated[float, typer.Option(help="Live false-match rate of the verdict.")] = FMR,
    trust_labels: Annotated[
        bool, typer.Option("--trust-labels", help="Take the people's labels as they are.")
    ] = False,
    data: Annotated[str, typer.Option(help="What the faces are, for card and report.")] = "",
    cache: Annotated[Path | None, typer.Option(help="Decoded faces and vectors.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Fit every candidate between two embedders, measure all, release the best.

    Writes map.onnx, card.json, README.md, figures, fit.json and candidates/. A killed fit goes on
    when the same command is given again.
    """
    try:
        from services.cli import mapping_fit  # noqa: PLC0415 - torch takes seconds to import
    except ImportError as error:
        raise SettingsError(
            f"{error.name} is not installed. Fitting needs: pip install 'mien[train]'"
        ) from error
    if epochs is None and profile == "cpu":
        epochs = CPU_EPOCHS
    r3an = {"epochs": epochs, "limit": limit, "seed": seed}
    mlp = {"epochs": mlp_epochs, "seed": seed}
    plan = mapping_fit.Plan(
        source,
        target,
        images,
        out_folder,
        cache or out_folder / "cache",
        profile,
        tuple(only or ()),
        views,
        blends,
        {name: value for name, value in r3an.items() if value is not None},
        {name: value for name, value in mlp.items() if value is not None},
        fmr,
        data or f"{images.parent.name}/{images.name}",
        trust_labels,
    )
    facts = mapping_fit.fit(plan)
    if as_json:
        print_json(facts)
        return
    out.print((out_folder / "README.md").read_text(encoding="utf-8"), markup=False)


@app.command()
def evaluate(
    folder: Annotated[
        Path, typer.Option("--map", exists=True, file_okay=False, help="Folder of a fit.")
    ],
    images: Annotated[Path, typer.Option(exists=True, file_okay=False, help="Pictures.")],
    index: Annotated[
        Path, typer.Option(exists=True, dir_okay=False, help="TSV: path person, and yaw if known.")
    ],
    distractors: Annotated[
        Path, typer.Option(exists=True, file_okay=False, help="Pictures of other people.")
    ],
    fmr: Annotated[float, typer.Option(help="Live false-match rate of the verdict.")] = FMR,
    cache: Annotated[Path | None, typer.Option(help="Keep embeddings here.")] = None,
    plots: Annotated[Path | None, typer.Option("--plot", help="Draw figures here.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Judge every map of a fit on pictures of people that it has not seen.

    Rank-1 over all pairs of a person's pictures against the distractors; TAR at thresholds fitted
    on one half of the people and judged on the other. Intervals are 95 %, by person.
    """
    card = read_card(folder / CARD_FILE)
    if not isinstance(card, MapCard):
        raise PairsError(f"{folder / CARD_FILE} is no map's card.")
    settings = command_settings()
    zoo = Zoo(settings.home)
    for end in (card.source, card.target):
        known = zoo.embedder(end.reference)
        if (known.weights.sha256, known.preprocessing_sha256) != (
            end.weights_sha256,
            end.preprocessing_sha256,
        ):
            raise PairsError(f"{end.reference} is not the model that the map was fitted to.")
    labelled = read_index(index)
    models = (card.source.reference, card.target.reference)

    async def work() -> Looked:
        async with local_mien(settings, models) as mien:
            total = 2 * (len(labelled.paths) + len(names_below(distractors)))
            with counting("embedding", total) as advance:
                return await look(
                    mien, settings, models, images, labelled, distractors, cache, advance
                )

    looked = run(work())
    subject = subject_of(looked.labelled, looked.faces, looked.distractors, looked.usable)
    maps = []
    found: Verdict | None = None
    for path in _files(folder, card):
        near, far = (
            apply_map(path, card, seen.source) for seen in (subject.faces, subject.distractors)
        )
        released = file_sha256(path) == card.weights.sha256
        maps.append(map_report(subject, path.stem, near, far, released=released))
        if released:
            found = verdict(subject, near, fmr)
            if plots is not None:
                _draw(plots, subject, near, far)
    if found is None:
        raise PairsError(f"{folder} does not hold the map that its card names.")
    result: dict[str, Any] = {
        "source": card.source.reference,
        "target": card.target.reference,
        "pictures": len(looked.labelled.paths),
        "people": len(set(labelled.people)),
        "distractors": len(subject.distractors.source),
        "failed_pictures": looked.failures,
        "native": native_report(subject),
        "maps": maps,
        "verdict": asdict(found),
    }
    if as_json:
        print_json(result)
        return
    out.print(_table(result), verdict_text(found), sep="\n")


def _files(folder: Path, card: MapCard) -> list[Path]:
    """All maps of a fit, or the released one where the others are not kept."""
    return sorted((folder / CANDIDATES).glob("*.onnx")) or [folder / card.weights.file]


def _draw(folder: Path, subject: Subject, near: MapAnswer, far: MapAnswer) -> None:
    # A command that draws nothing does without matplotlib.
    from models.r3an import figures  # noqa: PLC0415

    folder.mkdir(parents=True, exist_ok=True)
    conditions = {**native_conditions(subject), **map_conditions(subject, near, far)}
    figures.draw_scores(folder / "scores.png", conditions, subject.subjects)
    faces = subject.faces
    figures.draw_vectors(folder / "vectors.png", faces.source, near.mapped, faces.target)
    figures.draw_ranks(folder / "ranks.png", judge(subject, conditions))


def _table(result: dict[str, Any]) -> Table:
    table = Table("what", "rank-1, %", "95 %", "TAR at FMR 1e-3, %", "cosine")
    shown = [(name, found, "") for name, found in result["native"].items()]
    for one in result["maps"]:
        star = " (released)" if one["released"] else ""
        for name, found in one["conditions"].items():
            cosine = f"{one['cosine']:.3f}" if name == HEADLINE else ""
            shown.append((name.replace("map", one["name"]) + star, found, cosine))
    for name, found, cosine in shown:
        rank = [point for point in found["rank"] if point["where"] == "all"][-1]["rank1"]
        tar = next(p for p in found["tar"] if p["where"] == "all" and p["fmr"] == LEAST_FMR)
        table.add_row(
            name,
            f"{100 * rank['estimate']:.1f}",
            f"{100 * rank['low']:.1f} to {100 * rank['high']:.1f}",
            f"{100 * tar['tar']['estimate']:.1f}",
            cosine,
        )
    return table
