"""`mien train r3an` and `r3an-ablate`: R3AN between two embedders of the zoo."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from models.r3an.ablate import Judge, outcome_table
from models.r3an.options import (
    ARCHITECTURES,
    GPU_CHANGES,
    Architecture,
    Profile,
    TrainOptions,
    profile_options,
)
from models.r3an.train import Trainer
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
    trust_labels: Annotated[
        bool, typer.Option("--trust-labels", help="take the people's labels as they are")
    ] = False,
    cache: CacheOption = None,
) -> None:
    """Train every row of the method's Table 3; measure all on the test people, beside ridge."""
    kept = cache or out / "cache"
    size = {"epochs": epochs, "limit": limit, "seed": seed}
    with told_errors("r3an"):
        split = profile_options(profile, size)
        data = mapping_data(source, target, images, kept, split, trust_labels=trust_labels)
        judge = Judge(data.pairs)
        outcomes = judge.first()
        for name, row in ARCHITECTURES.items():
            options = profile_options(profile, {**row, **size})
            trainer = Trainer(options, data.pairs, data.faces, out / name, kept, data.facts())
            trainer.run_to_end()
            if trainer.stopping:
                return
            diverged = trainer.step < trainer.steps
            outcomes.append(judge.of(name, None if diverged else trainer.result().eval()))
            facts = {**data.facts(), "outcomes": [asdict(outcome) for outcome in outcomes]}
            (out / "ablation.json").write_text(json.dumps(facts, indent=2) + "\n")
    arrow = f"{data.source.reference} -> {data.target.reference}"
    Console(width=120).print(outcome_table(outcomes, arrow))
