import numpy as np
import pytest

from models.r3an import linear


def clouds(d_s: int, d_t: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(400, d_s)), rng.normal(size=(d_s, d_t)), rng.normal(size=d_t)


def test_ridge_finds_the_affine_map_that_made_the_data() -> None:
    x, matrix, offset = clouds(12, 7)
    found = linear.ridge(x, x @ matrix + offset, penalty=0)
    np.testing.assert_allclose(found.matrix, matrix, atol=1e-9)
    np.testing.assert_allclose(found.offset, offset, atol=1e-9)


def test_a_penalty_shrinks_the_slope_but_not_the_mean() -> None:
    x, matrix, offset = clouds(12, 7)
    y = x @ matrix + offset
    found = linear.ridge(x, y, penalty=1.0)
    assert np.linalg.norm(found.matrix) < 0.7 * np.linalg.norm(matrix)
    np.testing.assert_allclose(found(x).mean(axis=0), y.mean(axis=0), atol=1e-9)


def test_procrustes_finds_the_rotation() -> None:
    x, matrix, _ = clouds(9, 9)
    rotation, _ = np.linalg.qr(matrix)
    np.testing.assert_allclose(linear.procrustes(x, x @ rotation).matrix, rotation, atol=1e-9)


def test_procrustes_between_dimensions_keeps_orthonormal_columns() -> None:
    x, matrix, _ = clouds(9, 5)
    found = linear.procrustes(x, x @ matrix).matrix
    np.testing.assert_allclose(found.T @ found, np.eye(5), atol=1e-9)


@pytest.mark.parametrize("rank", [1, 3])
def test_a_low_rank_map_has_its_rank_and_is_the_best_of_that_rank(rank: int) -> None:
    x, matrix, offset = clouds(12, 7)
    u, s, v = np.linalg.svd(matrix, full_matrices=False)
    truth = (u[:, :rank] * s[:rank]) @ v[:rank]
    found = linear.low_rank(x, x @ truth + offset, rank, penalty=0)
    assert np.linalg.matrix_rank(found.matrix, tol=1e-8) == rank
    np.testing.assert_allclose(found.matrix, truth, atol=1e-8)
