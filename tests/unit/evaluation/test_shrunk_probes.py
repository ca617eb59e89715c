"""Simulated low resolution of probes."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from services.evaluation.pairs import Pair
from services.evaluation.shrink import shrink, split_name, with_shrunk_probes


def png(height: int, width: int) -> bytes:
    return bytes(cv2.imencode(".png", np.full((height, width, 3), 90, np.uint8))[1])


@pytest.mark.parametrize(
    ("height", "width", "size"), [(200, 100, (64, 32)), (90, 300, (19, 64)), (400, 1, (64, 1))]
)
def test_the_longer_side_gets_the_length_asked_for(
    height: int, width: int, size: tuple[int, int]
) -> None:
    data = shrink(png(height, width), 64)
    small = np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR))
    assert small.shape[:2] == size
    assert np.unique(small).tolist() == [90]


@pytest.mark.parametrize("data", [b"", b"no picture", png(64, 20)])
def test_what_cannot_or_need_not_be_shrunk_stays(data: bytes) -> None:
    assert shrink(data, 64) == data


def test_only_first_pictures_are_shrunk_under_a_name_of_their_own() -> None:
    pair = Pair("1", "ann/1.jpg", "ann/2.jpg", same=True)
    (changed,) = with_shrunk_probes([pair], 48)
    assert split_name(changed.path1) == ("ann/1.jpg", 48)
    assert (changed.path2, changed.same) == ("ann/2.jpg", True)
    assert split_name(changed.path2) == ("ann/2.jpg", 0)
