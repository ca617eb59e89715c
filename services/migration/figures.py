"""Figures of migrations, as PNG. Imported where one is drawn: matplotlib takes long to load."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from models.evaluation.plots import COLOURS
from services.migration.judgement import BINS
from services.migration.plan import Plan
from services.migration.shadow import EDGES, Tally


def draw_plan(plan: Plan, path: Path) -> None:
    """Confidences, and similarities before and after the map, as PNG."""
    figure = Figure(figsize=(12.6, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = [figure.add_subplot(1, 3, place) for place in (1, 2, 3)]
    bins = np.linspace(-1.0, 1.0, len(plan.confidences) + 1)
    axes[0].stairs(plan.confidences, bins, fill=True, color=COLOURS[2], alpha=0.6)
    axes[0].axvline(plan.weak_below, color=COLOURS[5], linewidth=1, linestyle="--")
    axes[0].set_title("confidence", fontsize=10)
    axes[0].set_xlabel("predicted cosine")
    axes[0].set_ylabel("share of templates")
    edges = np.linspace(-1.0, 1.0, BINS + 1)
    for axis, space in zip(axes[1:], ("source", "mapped"), strict=True):
        for kind, colour in (("impostor", COLOURS[1]), ("genuine", COLOURS[0])):
            shares = plan.judgement.histograms[f"{space} {kind}"]
            if shares:
                axis.stairs(shares, edges, fill=True, color=colour, alpha=0.45, label=kind)
                axis.legend(fontsize=8, loc="upper left")
        axis.set_title(f"{space} templates among themselves", fontsize=10)
        axis.set_xlabel("similarity")
    axes[1].set_ylabel("share of comparisons")
    figure.savefig(path, dpi=130)


def draw_tally(tally: Tally, path: Path) -> None:
    """How surely both models answered."""
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.add_subplot(1, 1, 1)
    for name, counts, colour in (
        ("live model", tally.live_leads, COLOURS[0]),
        ("next model", tally.next_leads, COLOURS[1]),
    ):
        axis.stairs(counts, EDGES, fill=True, color=colour, alpha=0.45, label=name)
    axis.axvline(0.0, color=COLOURS[5], linewidth=1, linestyle="--")
    axis.set_xlabel("first candidate's similarity over its threshold")
    axis.set_ylabel("faces")
    axis.legend(fontsize=8, loc="upper left")
    figure.savefig(path, dpi=130)
