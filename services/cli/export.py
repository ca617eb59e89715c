"""`mien export`: the models in the form that other servers take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from models.zoo import Zoo
from services.cli.context import command_settings
from services.cli.output import out
from services.triton_export import Accelerator, Backend, Device, TritonOptions, export_triton

app = typer.Typer(help="Write the models for other servers.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keeps `triton` a word of its own while it is the only one."""


@app.command()
def triton(
    folder: Annotated[Path, typer.Argument(file_okay=False, help="Model repository.")],
    models: Annotated[
        list[str] | None, typer.Argument(help="Models; if none, the served ones and the detector.")
    ] = None,
    backend: Annotated[Backend, typer.Option(help="What runs them.")] = "onnxruntime",
    device: Annotated[Device, typer.Option(help="Where.")] = "auto",
    accelerator: Annotated[Accelerator, typer.Option(help="For ONNX Runtime.")] = "none",
    max_batch: Annotated[int, typer.Option(help="Most rows in one batch.")] = 32,
    force: Annotated[bool, typer.Option(help="Replace models that are there.")] = False,
) -> None:
    """Write a Triton model repository, for `tritonserver --model-repository DIR`."""
    settings = command_settings()
    options = TritonOptions(
        backend=backend, device=device, accelerator=accelerator, max_batch=max_batch
    )
    served = [*settings.embedding.models, *settings.enhancement.models, settings.detection.model]
    names = models or served
    for one in export_triton(Zoo(settings.home), names, folder, options, overwrite=force):
        out.print(f"{one.reference}: {one.name} version {one.version} in {one.folder}")
