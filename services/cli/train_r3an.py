"""`mien train r3an` and `r3an-ablate`: R3AN between two embedders of the zoo."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from models.r3an.options import (
    ARCHITECTURES,
    GPU_CHANGES,
    Architecture,
    Profile,
    TrainOptions,
    profile_options,
)
from models.r3an.train import RESULT, Trainer
from models.training.options_cli import (
    CacheOption,
    OptionsFromOption,
    RunOption,
    chosen_options,
    told_errors,
    with_options,
)
from services.cli.mapping_data import mapping_data

SourceOption = Annotated[str, typer.Option(help="embedder whose vectors are mapped")]
TargetOption = Annotated[str, typer.Option(help="embedder whose space they are mapped to")]
ImagesOption = Annotated[
    Path, typer.Option(exists=True, file_okay=False, help="index.tsv and tars of aligned faces")
]
ProfileOption = Annotated[Profile, typer.Option(help="preset that the options below change")]


def _train(
    source: SourceOption,
    target: TargetOption,
    images: ImagesOption,
    out: RunOption,
    profile: ProfileOption = "cpu",
    architecture: Annotated[
        Architecture, typer.Option(help="row of the method's table; options below change it")
    ] = "R3AN",
    cache: CacheOption = None,
    options_from: OptionsFromOption = None,
    **values: Any,
) -> None:
    """Train R3AN, or a row of its table. A killed run goes on when the command is given again."""
    row = ARCHITECTURES[architecture]
    options = chosen_options(
        lambda changes: profile_options(profile, {**row, **changes}),
        TrainOptions,
        options_from,
        values,
    )
    with told_errors("r3an"):
        kept = cache or out / "cache"
        data = mapping_data(source, target, images, kept, options)
        Trainer(options, data.pairs, data.faces, out, kept, data.facts()).run()


train = with_options(_train, TrainOptions, GPU_CHANGES)


def ablate(
    source: SourceOption,
    target: TargetOption,
    images: ImagesOption,
    out: RunOption,
    profile: ProfileOption = "cpu",
    epochs: Annotated[float, typer.Option(min=0, help="of each row")] = 2.0,
    limit: Annotated[int, typer.Option(min=0, help="training faces of each; 0 is all")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="of all rows")] = 1,
    cache: CacheOption = None,
) -> None:
    """Train every row of the method's Table 3 in turn and write ablation.json."""
    kept = cache or out / "cache"
    outcomes: dict[str, Any] = {}
    for name, row in ARCHITECTURES.items():
        changes = {**row, "epochs": epochs, "limit": limit, "seed": seed}
        options = profile_options(profile, changes)
        with told_errors("r3an"):
            data = mapping_data(source, target, images, kept, options)
            trainer = Trainer(options, data.pairs, data.faces, out / name, kept, data.facts())
            trainer.run()
            if trainer.stopping:
                return
        outcomes[name] = json.loads((out / name / RESULT).read_text())
        typer.echo(f"{name}: {outcomes[name]}")
        (out / "ablation.json").write_text(json.dumps(outcomes, indent=2) + "\n")
