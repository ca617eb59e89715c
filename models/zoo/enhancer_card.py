"""Card of a network that redraws a face, and the measured gain that allows its use."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from pydantic import Field, model_validator

from models.zoo.card_base import CardBase, ModelThreshold, Sha256, Strict


class EnhancerInput(Strict):
    """The aligned crop that an enhancer takes, as N x 3 x side x side float32, RGB, -1 to 1."""

    side: int = Field(default=112, ge=16, le=1024)
    template: Literal["arcface"] = "arcface"
    up_sampling: Literal["nearest", "bicubic"] = Field(
        default="bicubic", description="how a crop of fewer pixels is brought to the side"
    )
    equalise: bool = Field(
        default=False, description="equalise the histogram of Y of YCrCb first, keep the colours"
    )


class Rate(Strict):
    """A measured rate, 0 to 1 (a difference of two: -1 to 1), with its 95 % interval by person."""

    value: float = Field(ge=-1, le=1)
    low: float = Field(ge=-1, le=1)
    high: float = Field(ge=-1, le=1)


class GainPoint(Strict):
    """Verification with one face of each pair degraded to one size, with and without the enhancer.

    Each side has a threshold of its own for the false-match rate.
    """

    domain: str = Field(description="how the faces were degraded")
    side: int = Field(ge=1, description="pixels across the degraded crop")
    eyes_px: float = Field(gt=0, description="between the eyes at that size")
    fmr: float = Field(gt=0, lt=1)
    plain: Rate = Field(description="true match rate without")
    enhanced: Rate = Field(description="true match rate with")
    gain: Rate = Field(description="their difference, people drawn once for both")


class EnhancerGate(Strict):
    """Where an enhancer has been shown to help one embedding model.

    What is short of pixels is helped up to a size (`helps_below`), what is short of colour from a
    size on (`helps_from`): one of the two is said.
    """

    embedder: str = Field(pattern=r"^[^@\s]+@[^@\s]+$", description="as name@version")
    embedder_sha256: Sha256
    helps_below_eyes_px: float | None = Field(
        default=None, ge=0, description="with it, px; 0: it helps at no size"
    )
    helps_from_eyes_px: float | None = Field(
        default=None, gt=0, description="up to any size; without both it helps at none"
    )
    points: tuple[GainPoint, ...] = Field(min_length=1)
    faces: int = Field(gt=1)
    people: int = Field(gt=1)
    data: str
    command: str
    hardware: str
    date: str = Field(pattern=r"^\d{4}-\d{2}-\d{2}$")
    thresholds: tuple[ModelThreshold, ...] = Field(
        default=(), description="for comparisons with an enhanced face; empty: the embedder's own"
    )

    @model_validator(mode="after")
    def _nothing_but_what_was_measured(self) -> EnhancerGate:
        below, least = self.helps_below_eyes_px, self.helps_from_eyes_px
        if below is not None and least is not None:
            raise ValueError("helps_below_eyes_px and helps_from_eyes_px: at most one")
        allowed = helps_below(self.points)
        if below is not None and below > allowed + 1e-6:
            raise ValueError(
                f"helps_below_eyes_px: the points show a gain only up to {allowed:g} px"
            )
        shown = helps_from(self.points)
        if least is not None and (shown is None or least < shown - 1e-6):
            raise ValueError(
                "helps_from_eyes_px: the points show a gain "
                + ("at no size" if shown is None else f"only from {shown:g} px on")
            )
        return self


class EnhancerCard(CardBase):
    """Card of a network that redraws an aligned face crop."""

    kind: Literal["enhancer"] = "enhancer"
    operation: Literal["super_resolution", "nir_to_visible", "visible_to_nir"]
    input: EnhancerInput = EnhancerInput()
    output: str = Field(default="enhanced", description="output tensor, of the input's shape")
    gates: tuple[EnhancerGate, ...] = ()

    @model_validator(mode="after")
    def _one_gate_for_each_embedder(self) -> EnhancerCard:
        names = [gate.embedder for gate in self.gates]
        if len(set(names)) != len(names):
            raise ValueError("gates: one for each embedder")
        wrong = "from" if self.operation == "super_resolution" else "below"
        if any(getattr(gate, f"helps_{wrong}_eyes_px") is not None for gate in self.gates):
            raise ValueError(f"gates: helps_{wrong}_eyes_px is not for {self.operation}")
        return self


def helps_below(points: Sequence[GainPoint]) -> float:
    """Largest distance between the eyes, px, up to which an enhancer helps, from the smallest on.

    It helps at a size if it surely gains in one degradation, at every false-match rate, and surely
    loses in none: sure is what the whole interval says. Where so few pixels are left that nothing
    can be verified either way, a degradation is neither. A size counts only if each degradation and
    each false-match rate was measured there.

    Returns:
        0 where that is so at no size.
    """
    found = 0.0
    for size in _gaining(points, sorted({point.eyes_px for point in points})):
        found = size
    return found


def helps_from(points: Sequence[GainPoint]) -> float | None:
    """Smallest distance between the eyes, px, from which on an enhancer helps, to the largest.

    By the rule of `helps_below`. Faces larger than the crop are cut to its size, so that a gain at
    the largest measured size holds for all above.

    Returns:
        None where it does not help at the largest size.
    """
    found = None
    for size in _gaining(points, sorted({point.eyes_px for point in points}, reverse=True)):
        found = size
    return found


def _gaining(points: Sequence[GainPoint], sizes: Sequence[float]) -> Iterator[float]:
    """The sizes, in the order given, up to the first at which an enhancer does not help."""
    kinds = {(point.domain, point.fmr) for point in points}
    for size in sizes:
        here = [point for point in points if point.eyes_px == size]
        if {(point.domain, point.fmr) for point in here} != kinds:
            return
        unsure = {point.domain for point in here if point.gain.low <= 0}
        if len(unsure) == len({point.domain for point in here}):
            return
        if any(point.gain.high < 0 for point in here):
            return
        yield size
