"""Vectors before they are mapped: of length 1, or made so where their model gives others."""

import numpy as np
import pytest

from models.zoo.map_card import MapEnd
from models.zoo.map_vectors import VectorError, unit_source


def source(unit_length: bool) -> MapEnd:
    return MapEnd(
        name="old",
        version="1",
        weights_sha256="a" * 64,
        preprocessing_sha256="b" * 64,
        dimension=8,
        unit_length=unit_length,
    )


VECTORS = np.random.default_rng(0).standard_normal((4, 8)).astype(np.float32)
UNITS = VECTORS / np.linalg.norm(VECTORS, axis=1, keepdims=True)


def test_vectors_of_a_model_that_does_not_normalise_are_scaled() -> None:
    np.testing.assert_allclose(unit_source(VECTORS * 1.4, source(False)), UNITS, atol=1e-6)
    huge = unit_source(VECTORS * np.float32(1e30), source(False))
    np.testing.assert_allclose(huge, UNITS, atol=1e-6)


def test_unit_vectors_stay_as_they_are() -> None:
    for unit_length in (True, False):
        np.testing.assert_allclose(unit_source(UNITS, source(unit_length)), UNITS, atol=1e-6)


@pytest.mark.parametrize(
    ("factor", "told"),
    [(1.01, "length 1"), (0.99, "length 1"), (0.0, "zero"), (np.nan, "finite"), (np.inf, "finite")],
)
def test_a_vector_that_the_source_cannot_have_given_is_refused(factor: float, told: str) -> None:
    vectors = UNITS.copy()
    vectors[2] *= np.float32(factor)
    with pytest.raises(VectorError, match=told) as caught:
        unit_source(vectors, source(True))
    assert caught.value.row == 2


@pytest.mark.parametrize("factor", [0.0, np.nan, np.inf])
def test_a_vector_without_a_direction_is_refused(factor: float) -> None:
    vectors = VECTORS.copy()
    vectors[1] *= np.float32(factor)
    with pytest.raises(VectorError) as caught:
        unit_source(vectors, source(False))
    assert caught.value.row == 1
