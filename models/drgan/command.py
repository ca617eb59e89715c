"""The training command of DR-GAN."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from models.drgan.options import GPU_CHANGES, Profile, TrainOptions, profile_options
from models.drgan.train import Trainer
from models.training.options_cli import (
    CacheOption,
    DataOption,
    OptionsFromOption,
    RunOption,
    StartOption,
    chosen_options,
    told_errors,
    with_options,
)

app = typer.Typer(help="DR-GAN: train encoder, decoder and discriminator.", add_completion=False)


def _train(
    data: DataOption,
    out: RunOption,
    start: StartOption,
    profile: Annotated[Profile, typer.Option(help="preset that the options below change")] = "cpu",
    cache: CacheOption = None,
    warm: Annotated[
        Path | None, typer.Option(help="warm start, shared between runs (OUT/warm)")
    ] = None,
    options_from: OptionsFromOption = None,
    **values: Any,
) -> None:
    """Train DR-GAN. A killed run goes on when the same command is given again."""
    options = chosen_options(
        lambda changes: profile_options(profile, changes), TrainOptions, options_from, values
    )
    with told_errors("drgan"):
        Trainer(options, data, out, cache or out / "cache", start, warm).run()


train = with_options(_train, TrainOptions, GPU_CHANGES)
app.command("train")(train)


if __name__ == "__main__":
    app()
