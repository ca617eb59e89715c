"""The training command of PoseFace."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from models.poseface.options import GPU_CHANGES, Profile, TrainOptions, profile_options
from models.poseface.train import Trainer
from models.training.options_cli import (
    CacheOption,
    DataOption,
    OptionsFromOption,
    RunOption,
    chosen_options,
    told_errors,
    with_options,
)

app = typer.Typer(help="PoseFace: train the face embedder.", add_completion=False)


def _train(
    data: DataOption,
    out: RunOption,
    profile: Annotated[Profile, typer.Option(help="preset that the options below change")] = "cpu",
    cache: CacheOption = None,
    sface: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="SFace's ONNX file: start and teacher"),
    ] = None,
    start: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="ONNX file that other layers start from"),
    ] = None,
    teacher: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="another teacher than SFace, as ONNX file"),
    ] = None,
    options_from: OptionsFromOption = None,
    **values: Any,
) -> None:
    """Train PoseFace. A killed run goes on when the same command is given again."""
    options = chosen_options(
        lambda changes: profile_options(profile, changes), TrainOptions, options_from, values
    )
    with told_errors("poseface"):
        Trainer(options, data, out, cache or out / "cache", sface, start, teacher).run()


train = with_options(_train, TrainOptions, GPU_CHANGES)
app.command("train")(train)


if __name__ == "__main__":
    app()
