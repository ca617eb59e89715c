"""How large a picture may be."""

from __future__ import annotations

import warnings

import pytest

from services.gateway.imaging import ImageLimits, ImageProblem, decode
from tests.hostile import (
    encoded,
    gradient,
    png_file,
)
from tests.unit.imaging.samples import LIMITS, refusal, smooth


def test_the_limit_of_bytes_is_exact_and_told() -> None:
    data = encoded(smooth(), "PNG")
    assert decode(data, ImageLimits(max_bytes=len(data))).format == "png"
    error = refusal(data, ImageLimits(max_bytes=len(data) - 1))
    assert error.kind is ImageProblem.TOO_MANY_BYTES
    assert f"{len(data)} bytes" in error.detail
    assert f"at most {len(data) - 1} bytes" in error.detail


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "HEIC"])
def test_the_limit_of_pixels_is_exact_and_told(form: str) -> None:
    data = encoded(gradient(64, 64), form)
    assert decode(data, ImageLimits(max_pixels=64 * 64)).pixels.shape == (64, 64, 3)
    error = refusal(data, ImageLimits(max_pixels=64 * 64 - 1))
    assert error.kind is ImageProblem.TOO_MANY_PIXELS
    assert error.detail == "The picture has 4096 pixels; at most 4095 are accepted."


def test_limits_are_told_in_round_figures() -> None:
    error = refusal(png_file(10_420, 5_000))
    assert error.detail == "The picture has 52.1 million pixels; at most 40 million are accepted."
    assert "at most 10 MiB" in refusal(bytes(LIMITS.max_bytes + 1)).detail
    assert "16 pixels" in refusal(encoded(gradient(8, 8), "PNG")).detail


def test_sixteen_pixels_are_enough() -> None:
    for form in ("JPEG", "PNG", "WEBP", "BMP", "TIFF"):
        assert decode(encoded(gradient(16, 16), form), LIMITS).pixels.shape == (16, 16, 3)


def test_a_higher_limit_than_the_librarys_own_rules() -> None:
    # 91 million pixels: above the point where Pillow itself would warn of a bomb.
    band = (b"\0" + bytes(1250)) * 9100
    data = png_file(10_000, 9_100, depth=1, colour=0, rows=band)
    assert refusal(data).kind is ImageProblem.TOO_MANY_PIXELS
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        picture = decode(data, ImageLimits(max_pixels=100_000_000))
    assert picture.pixels.shape == (9_100, 10_000, 3)
