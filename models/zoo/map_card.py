"""The card of a map: from whose vectors to whose, how to compare what it gives, and how it did."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field

from models.zoo.card_base import CardBase, ModelThreshold, Sha256, Strict

Comparison = Literal["map|T", "T|map", "map|map"]
"""Probe before the bar, gallery behind it; T is the target model's own vector."""


class MapEnd(Strict):
    """One of the two models: vectors that declare another identity are refused."""

    name: str
    version: str
    weights_sha256: Sha256
    preprocessing_sha256: Sha256
    dimension: int = Field(ge=8, le=4096)
    unit_length: bool = Field(
        default=True,
        description="the model's own vectors have length 1; others are scaled before they are "
        "mapped",
    )

    @property
    def reference(self) -> str:
        """The model as ``name@version``."""
        return f"{self.name}@{self.version}"


class MapThreshold(ModelThreshold):
    """A cosine threshold for one kind of comparison and one target false-match rate."""

    comparison: Comparison


class ConfidenceBin(Strict):
    """Held-out faces of like confidence: what was predicted, and the cosine that came out."""

    predicted: float
    measured: float
    faces: int = Field(gt=0)


class MapConfidence(Strict):
    """How far the confidence output, a predicted cosine to the target's own vector, holds."""

    bins: tuple[ConfidenceBin, ...]
    gap: float = Field(ge=0, description="mean absolute difference over the bins")
    rank_correlation: float | None = Field(
        description="Spearman's, over single faces; none where all are alike"
    )
    data: str


class MapTensors(Strict):
    """What the network calls its input and outputs."""

    vector: str = "vector"
    mapped: str = "mapped"
    confidence: str = "confidence"


class MapCard(CardBase):
    """Card of a network that turns one model's vectors into another's.

    It takes unit source vectors (B,d_S) and gives unit target vectors (B,d_T) and a
    confidence (B,1), -1 to 1, all float32.
    """

    kind: Literal["map"] = "map"
    source: MapEnd
    target: MapEnd
    method: str = Field(description="what it is, in words")
    tensors: MapTensors = MapTensors()
    thresholds: tuple[MapThreshold, ...] = ()
    confidence: MapConfidence | None = None

    def threshold(self, comparison: Comparison, fmr: float) -> MapThreshold | None:
        """The threshold of a kind of comparison for a target FMR, or None."""
        for candidate in self.thresholds:
            if candidate.comparison == comparison and math.isclose(
                candidate.fmr, fmr, rel_tol=1e-6
            ):
                return candidate
        return None
