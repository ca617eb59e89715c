"""ROC, DET and score figures of one or several models, written as PNG and SVG.

Only matplotlib's object interface is used, so figures can be drawn in any thread and nothing is
shown on a screen.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from models.evaluation.rates import ErrorCurve, FloatArray, checked_scores, error_curve

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#000000")
"""From the palette of Okabe and Ito, told apart with any colour vision; styles differ as well."""
STYLES = ("-", "--", "-.", ":")
CURVE_POINTS = 800
BINS = 60
DET_TICKS = (1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.05, 0.2, 0.4, 0.6, 0.8, 0.95, 0.99, 0.999)
FMR_LABEL = "False match rate (FMR)"
FNMR_LABEL = "False non-match rate (FNMR)"


@dataclass(frozen=True)
class ScoreSet:
    """Similarities of one model: `genuine` (N,) and `impostor` (M,), ``-inf`` where one failed."""

    genuine: ArrayLike
    impostor: ArrayLike


@dataclass(frozen=True)
class _Model:
    """What the figures need of one model, with its name safe from being read as mathematics."""

    name: str
    genuine: FloatArray
    impostor: FloatArray
    curve: ErrorCurve
    colour: str
    style: str

    @property
    def size(self) -> str:
        return f"{self.genuine.size:,} genuine, {self.impostor.size:,} impostor pairs"


def write_curves(directory: Path | str, curves: Mapping[str, ScoreSet]) -> list[Path]:
    """Draw ``roc``, ``det`` and ``scores`` of the models, each as ``.png`` and ``.svg``.

    ROC: 1 - FNMR over FMR, logarithmic in FMR. DET: FNMR over FMR, both on normal-deviate axes
    (ISO/IEC 19795-1). On axes that cannot show a rate of 0 or 1 it is drawn half a comparison
    away from it. Scores: histogram per model; failed acquisitions are counted in its title.

    Args:
        directory: made when it is missing; files of those names are replaced.
        curves: scores by the name of the model, at least one.

    Returns:
        The files written.

    Raises:
        ValueError: no model, or bad scores (see `checked_scores`).
        OSError: the directory cannot be written.
    """
    if not curves:
        raise ValueError("no model to draw")
    models = [_model(number, name, curves[name]) for number, name in enumerate(curves)]
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    figures = {"roc": _roc(models), "det": _det(models), "scores": _histograms(models)}
    return [path for stem, figure in figures.items() for path in _save(figure, folder / stem)]


def _model(number: int, name: str, scores: ScoreSet) -> _Model:
    genuine = checked_scores(scores.genuine, f"{name}, genuine")
    impostor = checked_scores(scores.impostor, f"{name}, impostor")
    return _Model(
        name=name.replace("$", r"\$"),
        genuine=genuine,
        impostor=impostor,
        curve=error_curve(genuine, impostor),
        colour=COLOURS[number % len(COLOURS)],
        style=STYLES[number % len(STYLES)],
    )


def _save(figure: Figure, stem: Path) -> list[Path]:
    png, svg = stem.with_suffix(".png"), stem.with_suffix(".svg")
    figure.savefig(png, dpi=150)
    # Without the date and random element ids, the same scores give the same file.
    with rc_context({"svg.hashsalt": "mien"}):
        figure.savefig(svg, metadata={"Date": None})
    return [png, svg]


def _new_figure(rows: int = 1) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(6.4, 4.8 if rows == 1 else 2.8 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, [figure.add_subplot(rows, 1, row + 1) for row in range(rows)]


def _finish(axes: Axes, kind: str, models: list[_Model]) -> None:
    """Say how many pairs there are: in the title if all models have the same, else by model."""
    shared = len({model.size for model in models}) == 1
    for model in models:
        label = model.name if shared else f"{model.name} ({model.size})"
        axes.plot([], [], color=model.colour, linestyle=model.style, label=label)
    total = sum(model.genuine.size + model.impostor.size for model in models)
    pairs = models[0].size if shared else f"{len(models)} models, {total:,} pairs in all"
    axes.set_title(f"{kind}: {pairs}", fontsize=10)
    axes.grid(visible=True, color="#D0D0D0", linewidth=0.5)
    axes.legend(fontsize=8)


def _staircase(curve: ErrorCurve) -> tuple[FloatArray, FloatArray]:
    """Return FMR (ascending) and the least FNMR there, at most `CURVE_POINTS` + 1 points."""
    allowed = np.append(0.0, np.geomspace(1.0, max(curve.impostor_total, 1.0), CURVE_POINTS))
    last = np.searchsorted(curve.impostor_matches, np.floor(allowed + 1e-9), side="right") - 1
    picked = np.unique(last)
    return curve.fmr[picked], curve.fnmr[picked]


def _roc(models: list[_Model]) -> Figure:
    figure, (axes,) = _new_figure()
    for model in models:
        fmr, fnmr = _staircase(model.curve)
        shown = np.maximum(fmr, 0.5 / model.impostor.size)
        axes.step(shown, 1 - fnmr, where="post", color=model.colour, linestyle=model.style)
    axes.set_xscale("log")
    axes.set_xlabel(FMR_LABEL)
    axes.set_ylabel("1 − FNMR")
    _finish(axes, "ROC", models)
    return figure


def probit(rates: FloatArray) -> FloatArray:
    """Return the standard normal deviates of rates (N,) in (0, 1): the scale of a DET plot.

    Raises:
        ValueError: a rate is not inside (0, 1).
    """
    if not ((rates > 0) & (rates < 1)).all():
        raise ValueError("the normal deviate of a rate outside (0, 1) is not finite")
    normal = NormalDist()
    return np.array([normal.inv_cdf(float(rate)) for rate in rates])


def _deviates(rates: FloatArray, comparisons: int) -> FloatArray:
    half = 0.5 / comparisons
    return probit(np.clip(rates, half, 1 - half))


def _det(models: list[_Model]) -> Figure:
    figure, (axes,) = _new_figure()
    lowest, highest = np.inf, -np.inf
    for model in models:
        fmr, fnmr = _staircase(model.curve)
        x, y = _deviates(fmr, model.impostor.size), _deviates(fnmr, model.genuine.size)
        axes.step(x, y, where="post", color=model.colour, linestyle=model.style)
        lowest, highest = min(lowest, x.min(), y.min()), max(highest, x.max(), y.max())
    limits = (float(lowest) - 0.1, float(highest) + 0.1)
    axes.plot(limits, limits, color="#808080", linewidth=0.8, label="FMR = FNMR")
    places = probit(np.array(DET_TICKS))
    names = [f"{100 * tick:g} %" for tick in DET_TICKS]
    axes.set_xticks(places, names, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(places, names)
    axes.set_xlim(limits)
    axes.set_ylim(limits)
    axes.set_xlabel(FMR_LABEL)
    axes.set_ylabel(FNMR_LABEL)
    _finish(axes, "DET", models)
    return figure


def _histograms(models: list[_Model]) -> Figure:
    figure, rows = _new_figure(len(models))
    every = np.concatenate(
        [scores for model in models for scores in (model.genuine, model.impostor)]
    )
    acquired = every[every > -np.inf]
    edges = np.histogram_bin_edges(acquired, BINS)
    for axes, model in zip(rows, models, strict=True):
        kinds = (
            ("impostor", model.impostor, COLOURS[1], "//"),
            ("genuine", model.genuine, COLOURS[0], None),
        )
        failed = 0
        for label, scores, colour, hatch in kinds:
            counts, _ = np.histogram(scores[scores > -np.inf], edges)
            failed += scores.size - int(counts.sum())
            axes.stairs(
                counts / scores.size,
                edges,
                fill=True,
                color=colour,
                alpha=0.45,
                hatch=hatch,
                label=label,
            )
        note = f", {failed:,} of them failed" if failed else ""
        axes.set_title(f"{model.name}: {model.size}{note}", fontsize=10)
        axes.set_ylabel("Share of comparisons")
        axes.legend(fontsize=8)
    rows[-1].set_xlabel("Similarity")
    return figure
