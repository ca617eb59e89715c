"""Pictures of a map's report: distributions of vectors and scores, rank-1 curves, confidence."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from models.evaluation.plots import BINS, COLOURS, STYLES
from models.r3an.arrays import Floats
from models.r3an.protocol import Condition, Figures, Subjects, compared

CLOUD = 1500
"""Vectors drawn of each kind."""


def _figure(across: int, width: float = 4.2) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(width * across, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, [figure.add_subplot(1, across, k + 1) for k in range(across)]


def draw_vectors(path: Path, source: Floats, mapped: Floats, target: Floats) -> None:
    """Source, mapped and target vectors on the two main axes of each model's own space.

    Mapped and target share their axes: where a map does well, the clouds cover each other.

    Args:
        path: PNG.
        source: (n,d_S).
        mapped: (n,d_T).
        target: (n,d_T) of the same faces.
    """
    figure, axes = _figure(3)
    chosen = np.random.default_rng(0).permutation(len(source))[:CLOUD]
    of_target = _main_axes(target)
    drawn = (
        ("source", source @ _main_axes(source), COLOURS[1]),
        ("mapped", mapped @ of_target, COLOURS[2]),
        ("target", target @ of_target, COLOURS[0]),
    )
    for axis, (name, points, colour) in zip(axes, drawn, strict=True):
        axis.plot(points[chosen, 0], points[chosen, 1], ".", markersize=2, color=colour)
        axis.set_title(name, fontsize=10)
        axis.set_aspect("equal", adjustable="datalim")
    figure.savefig(path, dpi=130)


def _main_axes(vectors: Floats) -> Floats:
    """(d,2) directions of the most variance."""
    centred = vectors - vectors.mean(axis=0)
    _, axes = np.linalg.eigh(centred.T @ centred)
    two: Floats = axes[:, :-3:-1].astype(np.float32)
    return two


def draw_scores(path: Path, conditions: Mapping[str, Condition], subjects: Subjects) -> None:
    """Genuine and impostor scores of each condition."""
    figure, axes = _figure(len(conditions), 3.2)
    edges = np.linspace(-0.5, 1.0, BINS)
    for axis, (name, condition) in zip(axes, conditions.items(), strict=True):
        genuine, impostor = compared(condition, subjects)
        for label, scores, colour in (
            ("impostor", impostor, COLOURS[1]),
            ("genuine", genuine, COLOURS[0]),
        ):
            counts, _ = np.histogram(scores, edges)
            share = counts / max(1, len(scores))
            axis.stairs(share, edges, fill=True, color=colour, alpha=0.45, label=label)
        axis.set_title(name.replace("$", r"\$"), fontsize=10)
        axis.set_xlabel("similarity")
    axes[0].set_ylabel("share of comparisons")
    axes[0].legend(fontsize=8, loc="upper right")
    figure.savefig(path, dpi=130)


def draw_ranks(path: Path, figures: Mapping[str, Figures]) -> None:
    """Rank-1 of all pairs over the number of distractors, with intervals."""
    figure, (axis,) = _figure(1, 6.4)
    for number, (name, found) in enumerate(figures.items()):
        points = [point for point in found.rank if point.where == "all"]
        counts = [point.distractors for point in points]
        spans = [point.rank1 for point in points]
        colour, style = COLOURS[number % len(COLOURS)], STYLES[number % len(STYLES)]
        axis.plot(counts, [s.estimate for s in spans], style, color=colour, marker=".", label=name)
        axis.fill_between(
            counts, [s.low for s in spans], [s.high for s in spans], color=colour, alpha=0.12
        )
    axis.set_xscale("log")
    axis.set_xlabel("distractors")
    axis.set_ylabel("rank-1")
    axis.grid(visible=True, color="#D0D0D0", linewidth=0.5)
    axis.legend(fontsize=8, loc="lower left")
    figure.savefig(path, dpi=130)


def draw_confidence(path: Path, bins: list[tuple[float, float, int]]) -> None:
    """Predicted and measured cosine of held-out faces, bin by bin."""
    figure, (axis,) = _figure(1)
    predicted, measured, _ = zip(*bins, strict=True)
    ends = (min(*predicted, *measured), max(*predicted, *measured))
    axis.plot(ends, ends, color="#808080", linewidth=0.8)
    axis.plot(predicted, measured, "o-", color=COLOURS[0])
    axis.set_xlabel("predicted cosine")
    axis.set_ylabel("cosine to the target's own vector")
    axis.grid(visible=True, color="#D0D0D0", linewidth=0.5)
    figure.savefig(path, dpi=130)
