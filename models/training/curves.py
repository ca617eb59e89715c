"""Numbers of a run as CSV, and the CSV as a picture of curves."""

from __future__ import annotations

import csv
from pathlib import Path

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
from matplotlib import pyplot as plt

SMOOTHING = 25
"""Rows of the moving average drawn over the raw curve."""


class Log:
    """A CSV file that grows by one row at a time and survives a restart.

    Args:
        path: file; a header is written when it is new.
        columns: names, the first being the step.
    """

    def __init__(self, path: Path, columns: list[str]):
        self.path = path
        self.columns = columns
        if not path.exists():
            with path.open("w", newline="") as file:
                csv.writer(file).writerow(columns)

    def rewind(self, step: int) -> None:
        """Drop rows at or after `step`: a resumed run writes them again."""
        with self.path.open(newline="") as file:
            rows = list(csv.reader(file))
        with self.path.open("w", newline="") as file:
            csv.writer(file).writerows(
                [rows[0], *(row for row in rows[1:] if row and int(row[0]) < step)]
            )

    def add(self, values: dict[str, float]) -> None:
        """Append one row; missing columns stay empty."""
        with self.path.open("a", newline="") as file:
            csv.writer(file).writerow([_short(values.get(name)) for name in self.columns])

    def read(self) -> dict[str, list[float]]:
        """Columns by name; empty cells are NaN."""
        with self.path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        return {
            name: [float(row[name]) if row[name] else float("nan") for row in rows]
            for name in self.columns
        }


def _short(value: float | None) -> str:
    if value is None:
        return ""
    return str(value) if isinstance(value, int) else f"{value:.6g}"


def draw(log: Log, picture: Path, columns: list[str]) -> None:
    """One small chart per column over the steps, raw and smoothed."""
    table = log.read()
    steps = table[log.columns[0]]
    if not steps:
        return
    across = min(3, len(columns))
    down = -(-len(columns) // across)
    figure, axes = plt.subplots(down, across, figsize=(4.2 * across, 2.8 * down), squeeze=False)
    for axis, name in zip(axes.flat, columns, strict=False):
        axis.plot(steps, table[name], color="#9ab", linewidth=0.6)
        if len(steps) > 2 * SMOOTHING:
            kernel = np.ones(SMOOTHING) / SMOOTHING
            smooth = np.convolve(table[name], kernel, mode="valid")
            axis.plot(steps[SMOOTHING - 1 :], smooth, color="#124", linewidth=1.2)
        axis.set_title(name, fontsize=9)
        axis.tick_params(labelsize=7)
        axis.grid(alpha=0.3)
    for axis in axes.flat[len(columns) :]:
        axis.set_visible(False)
    figure.tight_layout()
    figure.savefig(picture, dpi=110)
    plt.close(figure)
