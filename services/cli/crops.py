"""`mien crops`: photographs as a folder that maps are fitted to and models trained on."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from models.zoo import Zoo
from services.cli.context import command_settings
from services.cli.faces import JsonOption
from services.cli.output import counting, out, print_json
from services.gateway.faces import FaceChoice, Selection
from services.gateway.server import load_pipeline
from services.runtime import EngineOptions
from services.training_folder import photographs_below, photographs_of, write_crops

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")


def crops(
    images: Annotated[
        Path,
        typer.Option(exists=True, file_okay=False, help="Photographs; a sub-folder is a person."),
    ],
    folder: Annotated[
        Path, typer.Option("--out", file_okay=False, help="For index.tsv and SOURCE.tar.")
    ],
    index: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="TSV of path and person, for sub-folders."),
    ] = None,
    source: Annotated[
        str, typer.Option(help="Name of this set; several sets may share --out.")
    ] = "own",
    face: Annotated[
        Literal["central", "largest"], typer.Option(help="Which, where there are several.")
    ] = "central",
    as_json: JsonOption = False,
) -> None:
    """Cut the faces out of photographs, for `mien mapping fit` and `mien train`.

    Writes aligned crops of 128 x 128 pixels, and who is on them. These are faces: keep the folder
    as the photographs are kept.
    """
    if not _NAME.fullmatch(source):
        raise typer.BadParameter("--source: small letters, digits, - and _, at most 32")
    settings = command_settings()
    photographs = photographs_below(images) if index is None else photographs_of(index)
    pipeline = load_pipeline(Zoo(settings.home), settings)
    with counting("pictures", len(photographs)) as advance:
        done = write_crops(
            pipeline,
            images,
            photographs,
            folder,
            source,
            FaceChoice(Selection(face)),
            EngineOptions().resolved_threads(),
            advance,
        )
    if as_json:
        print_json(asdict(done))
        return
    out.print(
        f"{done.faces:,} faces of {done.people:,} people in {folder}; of {done.pictures:,} "
        f"pictures {done.faceless:,} show no face and {done.unusable:,} cannot be used"
    )
