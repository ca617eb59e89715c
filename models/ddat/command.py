"""The training command of DDAT."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from models.ddat.options import GPU_CHANGES, Profile, TrainOptions, profile_options
from models.training.options_cli import chosen_options, with_options

app = typer.Typer(help="DDAT: train generator, adaptor, discriminator.", add_completion=False)


def _train(
    data: Annotated[Path, typer.Option(exists=True, file_okay=False, help="index.tsv and tars")],
    out: Annotated[Path, typer.Option(help="folder of the run; a run that is there goes on")],
    start: Annotated[
        Path,
        typer.Option(
            exists=True, dir_okay=False, help="SFace's or PoseFace's ONNX file: teacher, verifier"
        ),
    ],
    profile: Annotated[Profile, typer.Option(help="preset that the options below change")] = "cpu",
    cache: Annotated[
        Path | None, typer.Option(help="decoded faces, teacher features (OUT/cache)")
    ] = None,
    options_from: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="a run.json to begin from, not a profile"),
    ] = None,
    **values: Any,
) -> None:
    """Train DDAT. A killed run goes on when the same command is given again."""
    from models.ddat.train import Trainer  # noqa: PLC0415 - torch takes seconds to import
    from models.training.loop import TrainingError  # noqa: PLC0415

    options = chosen_options(
        lambda changes: profile_options(profile, changes), TrainOptions, options_from, values
    )
    try:
        Trainer(options, data, out, cache or out / "cache", start).run()
    except TrainingError as error:
        typer.echo(f"ddat: {error}", err=True)
        raise typer.Exit(1) from error


train = with_options(_train, TrainOptions, GPU_CHANGES)
app.command("train")(train)
