"""Templates: the mean by hand, what must not change it, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from services.templates import fuse, quality_weights


def vectors(count: int, dimension: int = 8) -> NDArray[np.float32]:
    made = np.random.default_rng(count).standard_normal((count, dimension)).astype(np.float32)
    scaled: NDArray[np.float32] = made * np.arange(1, count + 1, dtype=np.float32)[:, None]
    return scaled


def test_a_template_is_the_weighted_mean_at_unit_length() -> None:
    template = fuse(np.array([[3.0, 0.0], [0.0, 1.0]]), [0.5, 2.0])
    # (0.5 * (3, 0) + 2 * (0, 1)) / 2.5 = (0.6, 0.8), which is of unit length already.
    np.testing.assert_allclose(template, [0.6, 0.8], atol=1e-7)
    assert template.dtype == np.float32
    # With the first weight four times as large the mean is (6, 2) / 4: 3 to 1.
    template = fuse(np.array([[3.0, 0.0], [0.0, 1.0]]), [2.0, 2.0])
    np.testing.assert_allclose(template, [3 / math.sqrt(10), 1 / math.sqrt(10)], atol=1e-7)


def test_lengths_are_kept_where_they_are_compared() -> None:
    template = fuse(np.array([[4.0, 0.0], [0.0, 8.0]]), [3.0, 1.0], unit_length=False)
    np.testing.assert_allclose(template, [3.0, 2.0], atol=1e-6)


def test_the_order_of_the_pictures_does_not_matter() -> None:
    rows, weights = vectors(5), [0.1, 0.9, 0.3, 0.0, 0.7]
    turned = [3, 1, 4, 0, 2]
    one, other = fuse(rows, weights), fuse(rows[turned], [weights[i] for i in turned])
    np.testing.assert_allclose(one, other, atol=1e-7)
    assert not np.allclose(one, fuse(rows[turned], weights), atol=1e-2), "weights go with vectors"


@pytest.mark.parametrize("weight", [1e-30, 0.3, 1.0, 1e300])
def test_one_picture_gives_its_own_vector(weight: float) -> None:
    row = vectors(1)
    np.testing.assert_allclose(fuse(row, [weight]), row[0] / np.linalg.norm(row), atol=1e-6)
    np.testing.assert_array_equal(fuse(row, [weight], unit_length=False), row[0])


def test_only_the_ratios_of_weights_matter() -> None:
    rows = vectors(3)
    expected = fuse(rows, [1, 2, 4])
    for scale in (1e-12, 7.0, 4e307):
        np.testing.assert_allclose(fuse(rows, [scale, 2 * scale, 4 * scale]), expected, atol=1e-7)


def test_a_picture_of_no_weight_does_not_count() -> None:
    rows = vectors(3)
    np.testing.assert_allclose(fuse(rows, [1, 0, 1]), fuse(rows[[0, 2]], [1, 1]), atol=1e-7)


def test_a_better_picture_pulls_the_template_towards_it() -> None:
    rows = np.eye(2)
    pulls = [fuse(rows, [weight, 1.0])[0] for weight in (0.1, 0.5, 1.0, 3.0)]
    assert pulls == sorted(pulls)
    assert pulls[0] < 0.2
    assert pulls[-1] > 0.9


@pytest.mark.parametrize(
    ("rows", "weights", "told"),
    [
        (np.empty((0, 4)), [], "at least one"),
        (np.ones(4), [1.0] * 4, "at least one"),
        (np.ones((2, 4)), [1.0], "one weight for each of the 2"),
        (np.ones((2, 4)), [1.0, 1.0, 1.0], "one weight for each of the 2"),
        (np.ones((2, 4)), [1.0, -0.1], "0 or more"),
        (np.ones((2, 4)), [1.0, math.nan], "finite"),
        (np.ones((2, 4)), [1.0, math.inf], "finite"),
        (np.ones((2, 4)), [0.0, 0.0], "not all be 0"),
        (np.array([[1.0, math.nan]]), [1.0], "vectors must be finite"),
        (np.array([[1.0, math.inf]]), [1.0], "vectors must be finite"),
        (np.array([[1.0, 2.0], [-1.0, -2.0]]), [1.0, 1.0], "cancel"),
        (np.zeros((2, 4)), [1.0, 1.0], "cancel"),
    ],
)
def test_what_has_no_template_is_refused(
    rows: NDArray[np.float64], weights: list[float], told: str
) -> None:
    with pytest.raises(ValueError, match=told):
        fuse(rows, weights)


def test_quality_becomes_a_weight_that_is_never_zero() -> None:
    assert quality_weights([100, 50, 1, 0.5, 0]) == [1.0, 0.5, 0.01, 0.01, 0.01]
    assert quality_weights([]) == []
    rows = vectors(2)
    np.testing.assert_allclose(fuse(rows, quality_weights([0, 0])), fuse(rows, [1, 1]), atol=1e-7)


@pytest.mark.parametrize("quality", [-0.1, 100.1, math.nan, math.inf])
def test_what_is_no_quality_is_refused(quality: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 100"):
        quality_weights([50.0, quality])
