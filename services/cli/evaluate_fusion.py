"""`mien evaluate-fusion`: templates of several pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from services.cli.context import command_settings, run
from services.cli.faces import JsonOption
from services.cli.output import counting, out, print_json
from services.evaluation.calibration import picture_set
from services.evaluation.fusion import WeighedPictures, fusion_report, weigh
from services.gateway.faces import FaceChoice, Selection
from services.local import local_mien


def evaluate_fusion(
    images: Annotated[
        Path, typer.Option(exists=True, file_okay=False, help="A folder for each person.")
    ],
    model: Annotated[str, typer.Option(help="Embedder as name or name@version.")],
    face: Annotated[Selection, typer.Option(help="Which face.")] = Selection.CENTRAL,
    fmr: Annotated[float, typer.Option(help="Target false-match rate.")] = 1e-2,
    trials: Annotated[int, typer.Option(min=1, help="Draws of pictures per person.")] = 10,
    as_json: JsonOption = False,
) -> None:
    """Compare templates of 1 to 6 probe pictures with single references.

    Three fusions of the same pictures: by the model's learned weights (or by quality, for a model
    that has none), their plain mean, and the one picture with the largest weight. Takes people
    with at least seven pictures. Intervals are 95 %, by person.
    """
    settings = command_settings()
    pictures = picture_set(images)

    async def work() -> WeighedPictures:
        async with local_mien(settings, (model,)) as mien:
            with counting(f"embedding with {model}", len(pictures.paths)) as advance:
                return await weigh(mien, model, pictures, FaceChoice(face), advance)

    result = {"model": model, **fusion_report(run(work()), fmr, trials)}
    if as_json:
        print_json(result)
        return
    out.print(
        f"{model}, {result['weights']} weights: {result['people']} people, "
        f"{result['genuine']:,} genuine and {result['impostor']:,} impostor comparisons"
    )
    out.print(_table(result))
    out.print(
        f"rank correlation of the weight with |yaw| {result['weight_with_yaw']:.3f}, "
        f"with sharpness {result['weight_with_sharpness']:.3f}"
    )


def _table(result: dict[str, Any]) -> Table:
    points = result["points"]
    fusions = list(dict.fromkeys(point["fusion"] for point in points))
    table = Table("pictures", *(f"TAR %, {name}" for name in fusions), *fusions)
    for images in dict.fromkeys(point["images"] for point in points):
        row = [point for point in points if point["images"] == images]
        spans = [
            f"{100 * p['tar']['estimate']:.2f} "
            f"({100 * p['tar']['low']:.2f} to {100 * p['tar']['high']:.2f})"
            for p in row
        ]
        table.add_row(str(images), *spans, *(f"EER {100 * p['eer']:.2f} %" for p in row))
    return table
