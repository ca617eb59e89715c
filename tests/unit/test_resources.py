"""Whether memory grows: the slope of samples, and how sure it is."""

from __future__ import annotations

import math
import os

import numpy as np
import pytest

from services.bench.resources import Sample, sample, slope_per_minute


def _samples(held: list[float]) -> list[Sample]:
    return [Sample(5.0 * index, round(one), 4, 8) for index, one in enumerate(held)]


def test_what_grows_steadily_has_that_slope() -> None:
    slope, margin = slope_per_minute(_samples([1e8 + 1000 * index for index in range(60)]))
    assert slope == pytest.approx(12_000)
    assert margin < 1


def test_growth_at_the_start_does_not_count() -> None:
    held = [1e8 + 1e6 * min(index, 15) for index in range(60)]
    slope, margin = slope_per_minute(_samples(held))
    assert slope == pytest.approx(0.0, abs=1.0)
    assert margin == pytest.approx(0.0, abs=1.0)


def test_noise_without_growth_has_an_interval_around_nothing() -> None:
    rng = np.random.default_rng(0)
    slope, margin = slope_per_minute(_samples(list(1e8 + 1e5 * rng.standard_normal(120))))
    assert slope - margin < 0 < slope + margin


def test_too_few_samples_have_no_slope() -> None:
    slope, margin = slope_per_minute(_samples([1e8, 1e8]))
    assert math.isnan(slope)
    assert math.isnan(margin)


def test_a_sample_sees_open_files() -> None:
    before = sample(os.getpid())
    read, write = os.pipe()
    try:
        assert sample(os.getpid()).files == before.files + 2
    finally:
        os.close(read)
        os.close(write)
