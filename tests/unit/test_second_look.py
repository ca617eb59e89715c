"""The second look: its geometry with a finder that sees coloured dots, and its caution."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from services.gateway.detection import Detection
from services.gateway.second_look import SIDE, look_again

Pixels = NDArray[np.uint8]

# One colour for each of the five points; a view that is mirrored swaps left and right as a real
# detector would, because it goes by where the points are.
_COLOURS = np.array([(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 255, 255)])
_MIRRORED = [1, 0, 2, 4, 3]


def face(scale: float = 1.0, left: float = 300.0, top: float = 200.0) -> Detection:
    points = np.array([(40, 50), (80, 55), (66, 72), (45, 95), (78, 97)], np.float32) * scale
    box = (left, top, 110.0 * scale, 140.0 * scale)
    return Detection(box, (points + np.array([left, top])).astype(np.float32), 0.9)


def dotted(seen: Detection, dot: int) -> Pixels:
    """A picture with a square of its own colour at each of the face's points."""
    picture = np.zeros((1200, 1400, 3), np.uint8)
    for (x, y), colour in zip(seen.points, _COLOURS, strict=True):
        column, row = round(float(x)), round(float(y))
        picture[row - dot : row + dot + 1, column - dot : column + dot + 1] = colour
    return picture


class DotFinder:
    """Finds the dots' middles; counts its calls."""

    def __init__(self, error: tuple[float, float] = (0.0, 0.0)) -> None:
        self.calls = 0
        self._error = np.array(error)

    def __call__(self, view: Pixels) -> list[Detection]:
        self.calls += 1
        assert view.shape == (SIDE, SIDE, 3)
        middles = []
        for colour in _COLOURS:
            weight = np.clip(200 - np.abs(view.astype(int) - colour).sum(axis=2), 0, None)
            rows, columns = np.mgrid[:SIDE, :SIDE]
            total = weight.sum()
            middles.append(((weight * columns).sum() / total, (weight * rows).sum() / total))
        points = np.array(middles)
        if points[0, 0] > points[1, 0]:
            points = points[_MIRRORED]
        low, high = points.min(axis=0) - 30, points.max(axis=0) + 30
        box = (*(float(v) for v in low), *(float(v) for v in high - low))
        return [Detection(box, (points + self._error).astype(np.float32), 0.8)]  # type: ignore[arg-type]


@pytest.mark.parametrize("scale", [0.5, 1.0, 4.0])
def test_points_come_back_to_where_they_are_in_the_picture(scale: float) -> None:
    seen = face(scale)
    found = look_again(dotted(seen, dot=max(2, round(4 * scale))), seen, DotFinder())
    assert np.abs(found.points - np.round(seen.points)).max() < 0.6 * max(1.0, scale)
    assert (found.box, found.score) == (seen.box, seen.score)


def test_an_error_that_views_share_in_their_own_directions_is_averaged_down() -> None:
    true = face()
    picture = dotted(true, dot=4)
    wrong = Detection(true.box, (true.points + np.array([6.0, 0.0])).astype(np.float32), true.score)
    found = look_again(picture, wrong, DotFinder())
    assert np.abs(found.points - true.points).max() < 2.0  # one of five views is 6 pixels off
    sideways = look_again(picture, true, DotFinder(error=(5.0, 0.0)))
    assert np.abs(sideways.points - true.points).max() < 1.5  # mirrored views err the other way


def test_of_few_pixels_eight_views_count_and_the_first_points_do_not() -> None:
    true = face()
    picture = dotted(true, dot=4)
    wrong = Detection(true.box, (true.points + np.array([6.0, 0.0])).astype(np.float32), true.score)
    finder = DotFinder()
    found = look_again(picture, wrong, finder, few_pixels=True)
    assert finder.calls == 8
    assert np.abs(found.points - true.points).max() < 0.8
    nothing = look_again(picture, wrong, lambda view: [], few_pixels=True)
    np.testing.assert_array_equal(nothing.points, wrong.points)


def test_points_of_another_face_do_not_count() -> None:
    seen = face()
    far = DotFinder(error=(90.0, 0.0))
    found = look_again(dotted(seen, dot=4), seen, far)
    assert far.calls == 4
    np.testing.assert_array_equal(found.points, seen.points)


def test_views_without_a_face_leave_the_points_alone() -> None:
    seen = face()
    found = look_again(dotted(seen, dot=4), seen, lambda view: [])
    np.testing.assert_array_equal(found.points, seen.points)


@pytest.mark.parametrize("left", [-60.0, 1330.0])
def test_a_face_at_the_edge_can_be_looked_at(left: float) -> None:
    seen = face(left=left)
    asked: list[Pixels] = []

    def find(view: Pixels) -> list[Detection]:
        asked.append(view)
        return []

    look_again(np.full((1200, 1400, 3), 90, np.uint8), seen, find)
    assert all(view.min() == 90 for view in asked)
