"""Crops and cards for tests of the embedder."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.zoo import EmbedderCard
from models.zoo.card import complete_card
from models.zoo.card_base import Weights
from services.runtime import (
    EngineOptions,
)

Crops = NDArray[np.uint8]
LIGHT = EngineOptions(threads=2)


def crops(count: int, side: int = 112, seed: int = 0) -> Crops:
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), np.uint8)


def card(dimension: int = 64, side: int = 112, **output: Any) -> EmbedderCard:
    fields = {
        "name": "tiny",
        "input": {"width": side, "height": side},
        "output": {"dimension": dimension, **output},
    }
    return complete_card(fields, Weights(sha256="0" * 64, size_bytes=1), {"version": "1"})
