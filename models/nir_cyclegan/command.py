"""The training command of the near-infrared CycleGAN."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from models.nir_cyclegan.options import (
    GPU_CHANGES,
    PUBLISHED,
    Profile,
    TrainOptions,
    profile_options,
)
from models.nir_cyclegan.pictures import Operation
from models.nir_cyclegan.train import Trainer
from models.training.options_cli import (
    BeginOption,
    CacheOption,
    DataOption,
    OptionsFromOption,
    RunOption,
    StartOption,
    chosen_options,
    told_errors,
    with_options,
)

app = typer.Typer(help="NIR CycleGAN: train both generators.", add_completion=False)

VggOption = Annotated[
    Path | None,
    typer.Option(
        exists=True, dir_okay=False, help="VGG16's state dict; else perception by the teacher"
    ),
]
InfraredOption = Annotated[
    Path | None,
    typer.Option(
        exists=True, file_okay=False, help="real near-infrared faces; else they are simulated"
    ),
]


def _train(
    data: DataOption,
    out: RunOption,
    start: StartOption,
    profile: Annotated[Profile, typer.Option(help="preset that the options below change")] = "cpu",
    published: Annotated[
        bool, typer.Option("--published", help="the paper's losses and CycleGAN's training")
    ] = False,
    cache: CacheOption = None,
    vgg16: VggOption = None,
    nir_data: InfraredOption = None,
    nir2vis: BeginOption = None,
    vis2nir: BeginOption = None,
    options_from: OptionsFromOption = None,
    **values: Any,
) -> None:
    """Train G and F. A killed run goes on when the same command is given again."""
    recipe = PUBLISHED if published else {}
    options = chosen_options(
        lambda changes: profile_options(profile, {**recipe, **changes}),
        TrainOptions,
        options_from,
        values,
    )
    files: dict[Operation, Path | None] = {"nir2vis": nir2vis, "vis2nir": vis2nir}
    begin = {operation: path for operation, path in files.items() if path is not None}
    with told_errors("nir-cyclegan"):
        Trainer(options, data, out, cache or out / "cache", start, vgg16, nir_data, begin).run()


train = with_options(_train, TrainOptions, GPU_CHANGES)
app.command("train")(train)


if __name__ == "__main__":
    app()
