"""Synthetic near-infrared faces from visible ones, to enlarge training data. Never for enrolment.

The network is `models.nir_cyclegan`'s G; its light is a simulation's or a data set's, the face
keeps the shading of the room in which it was photographed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.ddat.degradations import levels, scaled
from models.nir_cyclegan.pictures import Operation, equalised
from services.runtime import Engine

Pixels = NDArray[np.uint8]

GAIN_FILE = "gain.json"
"""Written beside exported weights: how their input is to be prepared."""

_BATCH = 8


def translate(engine: Engine, crops: Pixels, *, equalise: bool) -> Pixels:
    """Runs a translator on aligned faces.

    Args:
        engine: a network of `image`, RGB, -1 to 1, to `enhanced`, the same.
        crops: N x 112 x 112 x 3, RGB, 0-255.
        equalise: flatten each histogram first, as in the network's training.

    Returns:
        N x 112 x 112 x 3, RGB, 0-255.

    Raises:
        EngineError: the engine fails.
    """
    return np.concatenate(list(_batches(engine, crops, equalise)))


def _batches(engine: Engine, crops: Pixels, equalise: bool) -> Iterator[Pixels]:
    for start in range(0, len(crops), _BATCH):
        faces = [equalised(crop) if equalise else crop for crop in crops[start : start + _BATCH]]
        images = np.stack([scaled(face) for face in faces])
        yield levels(engine.infer({"image": images})["enhanced"])


def stated_equalisation(weights: Path, operation: Operation) -> bool | None:
    """Whether exported weights want an equalised input; None where nothing beside them says so."""
    stated = weights.parent / GAIN_FILE
    if not stated.is_file():
        return None
    return bool(json.loads(stated.read_text())["networks"][operation]["equalise_input"])
