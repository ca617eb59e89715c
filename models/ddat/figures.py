"""Figures of restored faces by domain, size and way of restoring, and their table.

The ways: up-sampled by the nearest pixel, by cubic interpolation, or drawn by the generator.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from rich.table import Table

from models.ddat.degradations import DomainName
from models.training.gains import Gain
from models.training.validation import Verification

QUICK_SIDES = (16, 28)
QUICK_DOMAINS: tuple[DomainName, ...] = ("area", "source", "target")
SIDES = (12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64)
"""Of the curve, px."""

METHODS = ("nearest", "bicubic", "enhanced")
FIGURES = [
    *(f"{d}_{s}_{m}" for d in ("area", "target") for s in QUICK_SIDES for m in METHODS[1:]),
    "psnr_bicubic", "psnr_enhanced", "ssim_bicubic", "ssim_enhanced", "identity_bicubic",
    "identity_enhanced", "teacher_frechet_source", "teacher_frechet_target", "probe_accuracy",
]  # fmt: skip
"""Columns of validation.csv after the step; a domain, a side and a method stand for TAR at 1e-3."""


@dataclass(frozen=True)
class MethodFigures:
    """One way to show a degraded face to the verifier.

    Attributes:
        verification: good against degraded faces of the held-out people.
        identity: mean cosine to the same face when good.
        teacher_frechet: distance to the good faces in the teacher's space, unit features; not FID.
        psnr: dB; NaN outside the source domain, whose good faces alone are meant to be met.
        ssim: likewise.
        false_matches: false-match rate at the good faces' threshold for 1e-3.
    """

    verification: Verification
    identity: float
    teacher_frechet: float
    psnr: float
    ssim: float
    false_matches: float


@dataclass(frozen=True)
class Point:
    """One size in one domain.

    Attributes:
        domain: how the faces were degraded.
        side: what was left of 112 px.
        eyes: distance between the eyes then, px.
        methods: by the names of `METHODS`.
        gains: of "enhanced" over "bicubic"; empty where no intervals were asked for.
    """

    domain: DomainName
    side: int
    eyes: float
    methods: dict[str, MethodFigures]
    gains: list[Gain]


@dataclass(frozen=True)
class Measured:
    """All figures of one generator.

    Attributes:
        clean: both faces good.
        points: per domain and side.
        probe_accuracy: of a linear probe for the domain of the bottleneck; 0.5 is the aim.
        faces: held-out faces.
        people: held-out people.
    """

    clean: Verification
    points: list[Point]
    probe_accuracy: float
    faces: int
    people: int

    def at(self, domain: str, side: int) -> Point | None:
        """The point of a domain and a side, if it was measured."""
        found = [p for p in self.points if (p.domain, p.side) == (domain, side)]
        return found[0] if found else None

    def figures(self) -> dict[str, float]:
        """Values by the names of `FIGURES`; sizes are averaged where none is named."""
        values = {"probe_accuracy": self.probe_accuracy}
        for point in self.points:
            for name in METHODS[1:]:
                tar = point.methods[name].verification.tar_1e3
                values[f"{point.domain}_{point.side}_{name}"] = tar
        for name in METHODS[1:]:
            values[f"psnr_{name}"] = self._mean("source", name, "psnr")
            values[f"ssim_{name}"] = self._mean("source", name, "ssim")
            values[f"identity_{name}"] = self._mean("target", name, "identity")
        for domain in ("source", "target"):
            mean = self._mean(domain, "enhanced", "teacher_frechet")
            values[f"teacher_frechet_{domain}"] = mean
        return values

    def _mean(self, domain: str, method: str, figure: str) -> float:
        found = [getattr(p.methods[method], figure) for p in self.points if p.domain == domain]
        return float(np.mean(found)) if found else float("nan")


def measured_table(measured: Measured, title: str) -> Table:
    """Per domain and side: each method's TAR, accuracy, FMR at the good faces' threshold."""
    table = Table(
        title=f"{title}: good against degraded, nearest / bicubic / enhanced", title_justify="left"
    )
    for name in (
        "domain",
        "px",
        "eyes",
        "TAR 1e-3",
        "TAR 1e-2",
        "accuracy",
        "FMR, 1e-3",
        "identity",
    ):
        table.add_column(name, justify="left" if name == "domain" else "right")
    for point in measured.points:
        ways = [point.methods[name] for name in METHODS]
        table.add_row(
            point.domain,
            str(point.side),
            f"{point.eyes:.1f}",
            " / ".join(f"{way.verification.tar_1e3:.3f}" for way in ways),
            " / ".join(f"{way.verification.tar_1e2:.3f}" for way in ways),
            " / ".join(f"{way.verification.accuracy:.3f}" for way in ways),
            " / ".join(f"{1e3 * way.false_matches:.2f}" for way in ways),
            " / ".join(f"{way.identity:.3f}" for way in ways),
        )
    values, clean = measured.figures(), measured.clean
    table.caption = (
        f"{measured.faces} faces of {measured.people} people; both good: TAR 1e-3 "
        f"{clean.tar_1e3:.3f}; PSNR {values['psnr_bicubic']:.2f} / {values['psnr_enhanced']:.2f} "
        f"dB, SSIM {values['ssim_bicubic']:.3f} / {values['ssim_enhanced']:.3f}; "
        f"domain probe {measured.probe_accuracy:.3f}"
    )
    return table
