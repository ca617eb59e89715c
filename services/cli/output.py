"""How commands print: tables for people, one JSON object for programs, progress on long work."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from models.zoo.fetch import Progress as FetchProgress

_PIPE_WIDTH = 110  # a file or pipe has no width of its own
out = Console(highlight=False, width=None if sys.stdout.isatty() else _PIPE_WIDTH)
err = Console(stderr=True, highlight=False, width=None if sys.stderr.isatty() else _PIPE_WIDTH)


def print_json(value: Any) -> None:
    """Prints one JSON object on standard output, and nothing else."""
    sys.stdout.write(json.dumps(value, indent=2) + "\n")


@contextmanager
def counting(title: str, total: int | None) -> Iterator[Any]:
    """A progress bar with time left, on standard error; yields what advances it by a count."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), console=err, transient=True) as progress:
        task = progress.add_task(title, total=total)
        yield lambda count: progress.advance(task, count)


@contextmanager
def downloading(title: str) -> Iterator[FetchProgress]:
    """A progress bar of bytes, on standard error; yields what moves it."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(*columns, TransferSpeedColumn(), console=err, transient=True) as progress:
        task = progress.add_task(title, total=None)

        def move(arrived: int, total: int | None) -> None:
            progress.update(task, completed=arrived, total=total)

        yield move
