"""Models of the zoo as embedders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.zoo import Zoo
from services.embedding.embedder import load_embedder
from services.runtime import (
    EngineError,
)
from tests.tiny_networks import SIDE, expected, write_network
from tests.unit.embedder.samples import LIGHT, crops


def added(tmp_path: Path, **fields: Any) -> Zoo:
    """A zoo with a tiny model in it, whose card may say anything."""
    described = {
        "name": "tiny",
        "input": {"width": SIDE, "height": SIDE},
        "output": {"dimension": 8},
        **fields,
    }
    (tmp_path / "card.json").write_text(json.dumps(described))
    zoo = Zoo(tmp_path / "home")
    network = write_network(tmp_path / "tiny.onnx")
    zoo.add(network, tmp_path / "card.json", lambda _, __: None)
    return zoo


def test_a_model_is_loaded_by_name(tmp_path: Path) -> None:
    embedder = load_embedder(added(tmp_path), "tiny", options=LIGHT)
    given = crops(2, SIDE)
    vectors = embedder.embed(given)
    plain = expected(given.transpose(0, 3, 1, 2).astype(np.float32), 8)
    np.testing.assert_allclose(
        vectors, plain / np.linalg.norm(plain, axis=1, keepdims=True), atol=1e-5
    )
    assert embedder.crop_bytes == SIDE * SIDE * 3
    embedder.close()


def test_a_model_of_another_dimension_is_not_served(tmp_path: Path) -> None:
    zoo = added(tmp_path, output={"dimension": 9})
    with pytest.raises(EngineError, match=r"output\.dimension: .*says 9, the network gives 8"):
        load_embedder(zoo, "tiny", options=LIGHT)


def test_a_model_for_other_crops_is_not_served(tmp_path: Path) -> None:
    zoo = added(tmp_path, input={"width": 32, "height": 16})
    with pytest.raises(EngineError, match=r"tiny@1 cannot run on RGB crops of 32 x 16"):
        load_embedder(zoo, "tiny", options=LIGHT)
