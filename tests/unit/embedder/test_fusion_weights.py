"""A model's own weights of its vectors, for templates of several pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from services.embedding.embedder import Embedder
from services.runtime import (
    Arrays,
    Engine,
    EngineError,
    EngineOptions,
    TensorInfo,
)
from services.runtime.onnxruntime_engine import OnnxRuntimeEngine
from services.runtime.openvino_engine import OpenVinoEngine
from services.runtime.weightless_engine import WeightlessEngine
from tests.tiny_networks import SIDE, expected, expected_weights, write_network
from tests.unit.embedder.samples import LIGHT, card, crops


@pytest.mark.parametrize("named", ["embedding", None])
@pytest.mark.parametrize("first", [False, True], ids=["vectors first", "weights first"])
@pytest.mark.parametrize("engine", [OpenVinoEngine, OnnxRuntimeEngine])
def test_weights_come_beside_the_vectors(
    tmp_path: Path,
    engine: Callable[[Path, EngineOptions], Engine],
    first: bool,
    named: str | None,
) -> None:
    path = write_network(tmp_path / "tiny.onnx", fusion="omega", fusion_first=first)
    embedder = Embedder(card(8, SIDE, weight="omega", name=named), engine(path, LIGHT))
    given = crops(5, SIDE)
    pixels = given.transpose(0, 3, 1, 2).astype(np.float32)
    done = embedder.embed_batch(given)
    assert done.weights is not None
    assert done.weights.std() > 0.01, "weights that are all alike could be mixed up"
    np.testing.assert_allclose(done.weights, expected_weights(pixels)[:, 0], atol=1e-5)
    raw = expected(pixels, 8)
    np.testing.assert_allclose(done.vectors * done.lengths[:, None], raw, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(np.linalg.norm(done.vectors, axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(
        embedder.embed(given[:1]), embedder.embed_batch(given[:1]).vectors
    )
    embedder.close()


def test_a_mirrored_crop_shares_in_the_weight(tmp_path: Path) -> None:
    path = write_network(tmp_path / "tiny.onnx", fusion="omega")
    embedder = Embedder(
        card(8, SIDE, weight="omega", flip_sum=True), OnnxRuntimeEngine(path, LIGHT)
    )
    given = crops(3, SIDE)
    both = [expected_weights(one.transpose(0, 3, 1, 2).astype(np.float32))[:, 0]
            for one in (given, given[:, :, ::-1])]  # fmt: skip
    done = embedder.embed_batch(given)
    assert done.weights is not None
    np.testing.assert_allclose(done.weights, (both[0] + both[1]) / 2, atol=1e-5)
    embedder.close()


def test_a_model_without_weights_has_none(weightless: Embedder) -> None:
    done = weightless.embed_batch(crops(2))
    assert done.weights is None
    kept = Embedder(card(normalise=False), WeightlessEngine()).embed_batch(crops(2))
    np.testing.assert_allclose(done.vectors * done.lengths[:, None], kept.vectors, rtol=1e-5)
    assert kept.lengths.tolist() == [1, 1]


class Weighing(WeightlessEngine):
    """Gives the weights that it is told to, whatever the crops."""

    def __init__(self, *weights: float) -> None:
        super().__init__()
        self._given = np.array(weights, np.float32)[:, None]
        outputs = (*super().info.outputs, TensorInfo("weight", (-1, 1)))
        self._info = replace(super().info, outputs=outputs)

    def infer(self, inputs: Mapping[str, NDArray[np.float32]]) -> Arrays:
        return {**super().infer(inputs), "weight": self._given}


def test_a_weight_that_rounds_to_nothing_still_counts_a_little() -> None:
    done = Embedder(card(weight="weight"), Weighing(0.0, 1.0)).embed_batch(crops(2))
    assert done.weights is not None
    assert 0 < done.weights[0] < 1e-5
    assert done.weights[1] == 1


@pytest.mark.parametrize(
    ("weights", "told"),
    [
        ((0.5, 1.01), "between 0 and 1"),
        ((0.5, -0.01), "between 0 and 1"),
        ((0.5, np.nan), "between 0 and 1"),
        ((0.5, 0.5, 0.5, 0.5), "one number for each crop, not 2"),
        ((0.5,), "one number for each crop, not 0.5"),
    ],
)
def test_what_is_no_weight_is_refused(weights: tuple[float, ...], told: str) -> None:
    with pytest.raises(EngineError, match=f"output.weight: tiny@1 .*{told}"):
        Embedder(card(weight="weight"), Weighing(*weights)).embed_batch(crops(2))


def test_a_card_that_names_a_weight_which_is_not_there() -> None:
    with pytest.raises(EngineError, match=r"no output 'omega'"):
        Embedder(card(weight="omega"), WeightlessEngine())
