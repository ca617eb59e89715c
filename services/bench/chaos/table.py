"""The trials as a table."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from services.bench.result import BenchResult

_COLUMNS = (
    "fault",
    "in flight",
    "answered",
    "refused or unanswered",
    "wrong",
    "restored",
    "recovered",
    "enrolled",
    "lost",
    "MB",
    "survived",
)


def print_table(result: BenchResult, console: Console) -> None:
    """Prints a table of faults: what was at work, what was refused, what was lost."""
    table = Table(*_COLUMNS)
    for one in result.details["faults"]:
        if one["skipped"]:
            table.add_row(one["fault"], *[""] * (len(_COLUMNS) - 2), f"skipped: {one['skipped']}")
            continue
        seconds = one["recovered_seconds"]
        table.add_row(
            one["fault"],
            str(one["in_flight"]),
            str(one["answered"]),
            "; ".join(f"{count} x {what}" for what, count in sorted(one["refused"].items())),
            str(one["wrong"]),
            f"{one['restored_seconds']:.1f} s",
            "never" if seconds is None else f"{seconds:.1f} s",
            str(one["acknowledged"]),
            str(one["lost"]),
            f"{one['memory_mb']:.0f}",
            "yes" if one["survived"] else f"NO {one['failure']}".strip(),
        )
    console.print(table)
    kept = {name: value for name, value in result.details.items() if name != "faults"}
    console.print(f"{result.value:.0f} of {result.reference:.0f} faults survived")
    for name, value in kept.items():
        console.print(f"  {name}: {value}")
