"""Vectors have the card's dimension and length, and are finite."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest
from numpy.typing import NDArray

from services.embedding.embedder import Embedder
from services.runtime import (
    Arrays,
    EngineError,
)
from services.runtime.weightless_engine import WeightlessEngine
from tests.unit.embedder.samples import card, crops


def test_vectors_have_the_dimension_and_unit_length(weightless: Embedder) -> None:
    vectors = weightless.embed(crops(3))
    assert vectors.shape == (3, 64)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_lengths_are_kept_where_the_card_says_so() -> None:
    embedder = Embedder(card(normalise=False), WeightlessEngine())
    plain = embedder.embed(crops(3))
    assert np.linalg.norm(plain, axis=1).min() > 1.5
    embedder.close()


def test_a_vector_of_zeros_stays_finite(weightless: Embedder) -> None:
    vectors = weightless.embed(np.full((1, 112, 112, 3), 90, np.uint8))
    assert np.isfinite(vectors).all()


class Answering(WeightlessEngine):
    """Gives what it is told to."""

    def __init__(self, answer: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> None:
        super().__init__()
        self._answer = answer

    def infer(self, inputs: Mapping[str, NDArray[np.float32]]) -> Arrays:
        return {"embedding": self._answer(inputs["data"])}


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(value: float) -> None:
    def answer(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        vectors = np.ones((len(batch), 64), np.float32)
        vectors[-1, 5] = value
        return vectors

    embedder = Embedder(card(), Answering(answer))
    with pytest.raises(EngineError, match=r"tiny@1 gave values that are not finite"):
        embedder.embed(crops(3))
    embedder.close()


def test_vectors_of_any_shape_are_flattened() -> None:
    embedder = Embedder(
        card(), Answering(lambda batch: np.ones((len(batch), 64, 1, 1), np.float32))
    )
    assert embedder.embed(crops(3)).shape == (3, 64)
    embedder.close()


def test_a_card_that_names_an_output_which_is_not_there() -> None:
    with pytest.raises(EngineError, match=r"no output 'vector'"):
        Embedder(card(name="vector"), WeightlessEngine())
