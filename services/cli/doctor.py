"""`mien doctor`: what is wrong with a set-up, and what to do about it."""

from __future__ import annotations

from dataclasses import asdict

from rich.markup import escape
from rich.table import Table

from services.cli.faces import JsonOption
from services.cli.output import out, print_json
from services.doctor import State, examine

_COLOURS = {State.OK: "green", State.NOTE: "yellow", State.WRONG: "red"}


def doctor(as_json: JsonOption = False) -> int:
    """Explain what is wrong with this set-up. It changes nothing.

    Exit code: 0 nothing is wrong, 1 something is.
    """
    findings = list(examine())
    faults = sum(one.state is State.WRONG for one in findings)
    if as_json:
        print_json({"findings": [asdict(one) for one in findings], "wrong": faults})
        return 1 if faults else 0
    table = Table("check", "", "found", show_lines=False)
    for one in findings:
        remedy = f"\n[bold]-> {escape(one.remedy)}[/bold]" if one.remedy else ""
        colour = _COLOURS[one.state]
        table.add_row(one.check, f"[{colour}]{one.state}[/{colour}]", escape(one.found) + remedy)
    out.print(table)
    out.print(f"{faults} of {len(findings)} checks found something wrong.")
    return 1 if faults else 0
