"""Figures of both generators by domain, and their table. All near infrared in them is simulated."""

from __future__ import annotations

from dataclasses import dataclass

from rich.table import Table

from models.nir_cyclegan.simulated import DOMAINS, DomainName
from models.training.gains import Gain
from models.training.validation import Verification

METHODS = ("none", "translated")
FIGURES = [
    *(f"{domain}_{method}" for domain in DOMAINS for method in METHODS),
    "identity_none", "identity_translated", "cycle_identity", "drawn_identity", "nir_frechet",
]  # fmt: skip
"""Columns of validation.csv after the step; a domain and a method stand for TAR at 1e-3."""


@dataclass(frozen=True)
class MethodFigures:
    """One way to show a near-infrared face to the verifier.

    Attributes:
        verification: visible against near-infrared faces of the held-out people.
        identity: mean cosine to the same face when visible.
        teacher_frechet: distance to the visible faces in the verifier's space; not FID.
        false_matches: false-match rate at the visible faces' threshold for 1e-3.
    """

    verification: Verification
    identity: float
    teacher_frechet: float
    false_matches: float


@dataclass(frozen=True)
class DomainFigures:
    """One kind of picture without colour.

    Attributes:
        domain: how visible faces were turned to it.
        methods: by the names of `METHODS`.
        gains: of "translated" over "none"; empty where no intervals were asked for.
    """

    domain: DomainName
    methods: dict[str, MethodFigures]
    gains: list[Gain]


@dataclass(frozen=True)
class Measured:
    """All figures of a run's generators.

    Attributes:
        clean: both faces visible.
        domains: F's, on each.
        cycle_identity: mean cosine of F(G(x)) to x.
        drawn_identity: of G(x) to x: what the way back could not have repaired.
        nir_frechet: distance of G(x) to simulated near infrared of the same people; not FID.
        faces: held-out faces.
        people: held-out people.
    """

    clean: Verification
    domains: list[DomainFigures]
    cycle_identity: float
    drawn_identity: float
    nir_frechet: float
    faces: int
    people: int

    def at(self, domain: DomainName) -> DomainFigures:
        """The figures of a domain."""
        return next(found for found in self.domains if found.domain == domain)

    def figures(self) -> dict[str, float]:
        """Values by the names of `FIGURES`."""
        values = {
            "cycle_identity": self.cycle_identity,
            "drawn_identity": self.drawn_identity,
            "nir_frechet": self.nir_frechet,
        }
        for found in self.domains:
            for name in METHODS:
                values[f"{found.domain}_{name}"] = found.methods[name].verification.tar_1e3
        for name in METHODS:
            values[f"identity_{name}"] = self.at("simulated").methods[name].identity
        return values


def measured_table(measured: Measured, title: str) -> Table:
    """Per domain: rates without and with translation."""
    table = Table(title=f"{title}: visible against simulated, none / translated")
    for name in ("domain", "TAR 1e-3", "TAR 1e-2", "accuracy", "identity", "Frechet"):
        table.add_column(name, justify="left" if name == "domain" else "right")
    for found in measured.domains:
        ways = [found.methods[name] for name in METHODS]
        table.add_row(
            found.domain,
            " / ".join(f"{way.verification.tar_1e3:.4f}" for way in ways),
            " / ".join(f"{way.verification.tar_1e2:.4f}" for way in ways),
            " / ".join(f"{way.verification.accuracy:.4f}" for way in ways),
            " / ".join(f"{way.identity:.3f}" for way in ways),
            " / ".join(f"{way.teacher_frechet:.3f}" for way in ways),
        )
    table.caption = (
        f"{measured.faces} faces of {measured.people} people; both visible: TAR 1e-3 "
        f"{measured.clean.tar_1e3:.4f}; identity of F(G(x)) {measured.cycle_identity:.3f}, of G(x) "
        f"{measured.drawn_identity:.3f}; G(x) to near infrared {measured.nir_frechet:.3f}"
    )
    return table
