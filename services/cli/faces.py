"""`mien verify` and `mien detect`: the gateway's answers for files."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from services.cli.context import command_settings, run
from services.cli.output import out, print_json
from services.gateway.core import PictureInput, VerifyCommand
from services.gateway.faces import FaceChoice, Selection
from services.gateway.rest.answers import detect_out, verify_out
from services.gateway.rest.schemas import DetectOut, VerifyOut
from services.local import local_mien
from services.telemetry import new_request_id

_EXIT = {"same": 0, "different": 1, "inconclusive": 2}

PictureArgument = Annotated[Path, typer.Argument(exists=True, dir_okay=False, readable=True)]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
ModelOption = Annotated[str, typer.Option(help="Embedder as name or name@version.")]


def add_commands(app: typer.Typer) -> None:
    """Adds the commands to the root."""
    app.command()(verify)
    app.command()(detect)


def verify(
    probe: PictureArgument,
    reference: PictureArgument,
    fmr: Annotated[float | None, typer.Option(help="Target false-match rate, e.g. 1e-3.")] = None,
    threshold: Annotated[float | None, typer.Option(help="A threshold of your own.")] = None,
    model: ModelOption = "",
    face: Annotated[Selection, typer.Option(help="Which face.")] = Selection.LARGEST,
    probe_index: Annotated[int, typer.Option(min=0, help="With --face index.")] = 0,
    reference_index: Annotated[int, typer.Option(min=0, help="With --face index.")] = 0,
    as_json: JsonOption = False,
) -> int:
    """Say whether two pictures show the same person.

    Exit code: 0 same, 1 different, 2 inconclusive, 3 error.
    """
    if fmr is not None and threshold is not None:
        raise typer.BadParameter("name either --fmr or --threshold, not both")
    if threshold is not None and not math.isfinite(threshold):
        raise typer.BadParameter("--threshold must be a finite number")
    settings = command_settings()
    models = (model,) if model else settings.embedding.models[:1]
    asked = VerifyCommand(
        probe=PictureInput(probe.read_bytes(), FaceChoice(face, probe_index)),
        references=(PictureInput(reference.read_bytes(), FaceChoice(face, reference_index)),),
        fmr=fmr,
        threshold=threshold,
    )

    async def work() -> VerifyOut:
        async with local_mien(settings, models) as mien:
            return verify_out(await mien.gateway.verify(asked), new_request_id(None), asked)

    answer = run(work())
    if as_json:
        print_json(answer.model_dump())
    else:
        out.print(describe(answer))
    return _EXIT[answer.decision]


def detect(picture: PictureArgument, as_json: JsonOption = False) -> int:
    """Find every face in a picture and measure it. Exit code: 0, or 3 on an error."""
    settings = command_settings()

    async def work() -> DetectOut:
        async with local_mien(settings, settings.embedding.models[:1]) as mien:
            found = await mien.gateway.detect(picture.read_bytes(), "picture")
            return detect_out(found, new_request_id(None))

    answer = run(work())
    if as_json:
        print_json(answer.model_dump())
        return 0
    table = Table(
        "#", "box x, y, w, h", "score", "yaw", "pitch", "roll", "quality", "eyes px", "light"
    )
    for index, face in enumerate(answer.faces):
        box, pose = face.box, face.pose
        table.add_row(
            str(index),
            f"{box.x:.0f}, {box.y:.0f}, {box.width:.0f}, {box.height:.0f}",
            f"{face.score:.2f}",
            f"{pose.yaw:.0f}",
            f"{pose.pitch:.0f}",
            f"{pose.roll:.0f}",
            f"{face.quality.unified:.0f}",
            f"{face.inter_eye_distance:.0f}",
            face.modality,
        )
    out.print(f"{answer.face_count} faces in {answer.width} x {answer.height} pixels")
    if answer.faces:
        out.print(table)
    return 0


def describe(answer: VerifyOut) -> str:
    """A verification in one or two sentences."""
    where = f"at FMR {answer.fmr:g}" if answer.fmr is not None else "(your own)"
    compared = (
        "nothing to compare"
        if answer.similarity is None
        else f"similarity {answer.similarity:.3f}, threshold {answer.threshold:.3f} {where}"
    )
    why = f" because of {', '.join(answer.reasons)}" if answer.reasons else ""
    model = f"{answer.model.name}@{answer.model.version}"
    total = answer.timing_ms["total"]
    return f"{answer.decision}{why}: {compared}, {model}, {total:.0f} ms"
