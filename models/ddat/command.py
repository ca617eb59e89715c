"""The training command of DDAT."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from models.ddat.options import GPU_CHANGES, Profile, TrainOptions, profile_options
from models.ddat.train import Trainer
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

app = typer.Typer(help="DDAT: train generator, adaptor, discriminator.", add_completion=False)


def _train(
    data: DataOption,
    out: RunOption,
    start: StartOption,
    profile: Annotated[Profile, typer.Option(help="preset that the options below change")] = "cpu",
    cache: CacheOption = None,
    generator: BeginOption = None,
    options_from: OptionsFromOption = None,
    **values: Any,
) -> None:
    """Train DDAT. A killed run goes on when the same command is given again."""
    options = chosen_options(
        lambda changes: profile_options(profile, changes), TrainOptions, options_from, values
    )
    with told_errors("ddat"):
        Trainer(options, data, out, cache or out / "cache", start, generator).run()


train = with_options(_train, TrainOptions, GPU_CHANGES)
app.command("train")(train)


if __name__ == "__main__":
    app()
