import numpy as np
import pytest

from models.evaluation.fusion import fused, fusion_curve, rank_correlation


def people_with_noise(spread: float) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Thirty people, seven images; every other image is noise, and its weight says so."""
    rng = np.random.default_rng(0)
    centre = rng.normal(size=(30, 1, 16))
    bad = (np.arange(7) % 2).astype(float) * spread
    images = centre + rng.normal(size=(30, 7, 16)) * (0.6 + bad[None, :, None])
    weights = np.tile(1 / (1 + bad**2), (30, 1))
    return images.reshape(-1, 16), weights.ravel(), [f"p{k // 7}" for k in range(210)]


def test_fusions_are_what_they_say() -> None:
    vectors = np.array([[3.0, 0.0], [0.0, 1.0]])
    weights = np.array([1.0, 9.0])
    assert fused(vectors, weights, "mean") == pytest.approx(np.array([3, 1]) / np.sqrt(10))
    assert fused(vectors, weights, "weights") == pytest.approx(np.array([3, 9]) / np.sqrt(90))
    assert fused(vectors, weights, "best") == pytest.approx([0, 1])


def test_more_images_help_and_good_weights_beat_the_plain_mean() -> None:
    points = {
        (p.fusion, p.images): p
        for p in fusion_curve(*people_with_noise(4.0), trials=8, resamples=20)
    }
    assert points["weights", 6].tar.estimate > points["mean", 6].tar.estimate
    assert points["weights", 6].tar.estimate > points["weights", 1].tar.estimate
    assert points["weights", 6].eer < points["mean", 6].eer
    one = {points[fusion, 1].tar.estimate for fusion in ("weights", "mean", "best")}
    assert len(one) == 1  # of one image all are the same
    assert points["mean", 3].people == 30
    assert (points["mean", 3].genuine, points["mean", 3].impostor) == (240, 240 * 29)
    interval = points["weights", 1].tar
    assert interval.low < interval.estimate < interval.high


def test_too_few_images_are_told() -> None:
    vectors, weights, people = people_with_noise(1.0)
    with pytest.raises(ValueError, match="8 images"):
        fusion_curve(vectors, weights, people, sizes=(7,))


def test_rank_correlation_is_spearmans() -> None:
    x = np.array([1.0, 2, 3, 4, np.nan])
    assert rank_correlation(x, np.exp(x)) == pytest.approx(1.0)
    assert rank_correlation(x, -(x**3)) == pytest.approx(-1.0)
    # by hand: ranks 1 2.5 2.5 4 against 1 2 3 4
    assert rank_correlation(np.array([1.0, 2, 2, 3]), x[:4]) == pytest.approx(0.9486832980505138)
    assert np.isnan(rank_correlation(np.ones(4), x[:4]))
