"""Sample sheets and the measured curve, as pictures."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from models.ddat.degradations import Up, up_sample
from models.ddat.figures import METHODS, Measured
from models.ddat.report import DOMAINS, translate
from models.training.held_out import CENTRAL

mpl.use("Agg")
from matplotlib import pyplot as plt

Bytes = npt.NDArray[np.uint8]

SHEET_SIDES = (12, 16, 28, 48)
COLOURS = {"nearest": "#b94", "bicubic": "#789", "enhanced": "#124"}


def sheet_faces(
    generator: nn.Module, crops: Bytes, device: torch.device, upsampling: Up
) -> list[list[Bytes]]:
    """Rows of few pixels, cubic, drawn, good: each face at each of `SHEET_SIDES`.

    The first, third ... face is degraded as in the source domain, the others as in the target.

    Args:
        generator: in evaluation mode.
        crops: (N,128,128,3) uint8, RGB.
        device: where the generator is.
        upsampling: of its input.
    """
    rows = []
    for number, crop in enumerate(crops[:, CENTRAL, CENTRAL]):
        good = np.ascontiguousarray(crop)
        domain = DOMAINS["target" if number % 2 else "source"]
        small = [
            domain.degrade(good, side, np.random.default_rng((number, side)))
            for side in SHEET_SIDES
        ]
        made, _ = translate(generator, small, upsampling, device)
        rows += [
            [up_sample(low, "nearest"), up_sample(low, "bicubic"), drawn, good]
            for low, drawn in zip(small, made, strict=True)
        ]
    return rows


def draw_curve(measured: Measured, path: Path) -> None:
    """TAR at 1e-3 over the side that is left, one chart per domain, a line per way to restore."""
    domains = list(dict.fromkeys(point.domain for point in measured.points))
    figure, axes = plt.subplots(1, len(domains), figsize=(4.6 * len(domains), 3.6), squeeze=False)
    for axis, domain in zip(axes[0], domains, strict=True):
        points = [point for point in measured.points if point.domain == domain]
        sides = [point.side for point in points]
        for name in METHODS:
            tars = [point.methods[name].verification.tar_1e3 for point in points]
            axis.plot(sides, tars, marker="o", markersize=3, color=COLOURS[name], label=name)
        spans = [
            (p.side, gain.made.low, gain.made.high)
            for p in points
            for gain in p.gains
            if gain.fmr == min(g.fmr for g in p.gains)
        ]
        if spans:
            at, low, high = (np.array(values) for values in zip(*spans, strict=True))
            axis.fill_between(at, low, high, color=COLOURS["enhanced"], alpha=0.12, linewidth=0)
        axis.axhline(measured.clean.tar_1e3, color="#aaa", linewidth=0.8, linestyle="--")
        axis.set_title(f"{domain} (simulated)", fontsize=9)
        axis.set_xlabel("side of what is left of 112 px", fontsize=8)
        axis.set_ylabel("TAR at FMR 1e-3", fontsize=8)
        axis.tick_params(labelsize=7)
        axis.grid(alpha=0.3)
    axes[0, 0].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
