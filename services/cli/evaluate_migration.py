"""`mien evaluate-migration`: what a map loses, in service, on photographs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from models.zoo import Zoo
from services.cli.context import command_settings, run
from services.cli.faces import JsonOption
from services.cli.output import counting, out, print_json
from services.evaluation.cross_model import read_index
from services.evaluation.migration import evaluate_migration as evaluated
from services.evaluation.migration import photographs


def evaluate_migration(
    map_name: Annotated[str, typer.Option("--map", help="Map, name or name@version.")],
    images: Annotated[Path, typer.Option(exists=True, file_okay=False, help="Picture folder.")],
    index: Annotated[
        Path, typer.Option(exists=True, dir_okay=False, help="TSV with the columns path, person.")
    ],
    people: Annotated[
        int, typer.Option(min=0, help="Most with new photographs; 0: all that have two or more.")
    ] = 0,
    as_json: JsonOption = False,
) -> None:
    """Enrol with a map's source model, migrate, switch, and identify new photographs.

    Each person enrols with the first photograph; the others are asked about: before the migration,
    after it, and after everybody has enrolled anew with the target model. It all happens in a
    gallery of its own. Percent; intervals are 95 %, by person.
    """
    settings = command_settings()
    card = Zoo(settings.home).map(map_name)
    found = photographs(read_index(index), people)
    total = 2 * len(found.enrolled) + 3 * len(found.new)
    with counting(f"{card.source.reference} to {card.target.reference}", total) as advance:
        result = run(evaluated(settings, card, images, found, advance))
    if as_json:
        print_json(result)
        return
    out.print(
        f"{result['map']}: {result['enrolled']:,} enrolled with {result['source']}, "
        f"{result['photographs']:,} new photographs of {result['people']:,} of them."
    )
    out.print(_table(result))
    loss, by_card = _span(result["rank1_loss"]), result["card_loss"]
    said = "the card tells none" if by_card is None else f"by the card {by_card:.1f}"
    out.print(f"Rank-1 lost against native enrolment: {loss} points; {said}.")


def _table(result: dict[str, Any]) -> Table:
    table = Table("gallery", "rank-1, %", "identified, %", "taken for another, %")
    for name, what in (
        ("source", f"{result['source']}, before"),
        ("migrated", f"migrated to {result['target']}"),
        ("native", f"enrolled anew with {result['target']}"),
    ):
        spans = [_span(result[key][name]) for key in ("rank1", "identified", "misidentified")]
        table.add_row(what, *spans)
    return table


def _span(one: dict[str, float]) -> str:
    return f"{one['estimate']:.1f} ({one['low']:.1f} to {one['high']:.1f})"
