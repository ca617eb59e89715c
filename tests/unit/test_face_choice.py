"""Which face is meant when a picture shows several."""

import numpy as np
import pytest

from services.errors import Errors, MienError
from services.gateway.detection import Detection
from services.gateway.faces import FaceChoice, Selection, choose

HEIGHT, WIDTH = 200, 400


def face(x: float, y: float, side: float) -> Detection:
    """A face of which only the box matters: its centre and its side."""
    return Detection((x - side / 2, y - side / 2, side, side), np.zeros((5, 2), np.float32), 0.9)


# As the detector orders them: largest first. The smallest is the most central.
THREE = [face(80, 100, 80), face(330, 50, 60), face(210, 110, 40)]


def pick(faces: list[Detection], selection: Selection, index: int = 0) -> int | None:
    return choose(faces, FaceChoice(selection, index), HEIGHT, WIDTH, "probe")


def test_the_largest_is_the_default() -> None:
    assert FaceChoice().selection is Selection.LARGEST
    assert choose(THREE, FaceChoice(), HEIGHT, WIDTH, "probe") == 0


def test_the_most_central() -> None:
    assert pick(THREE, Selection.CENTRAL) == 2
    assert pick(THREE[:2], Selection.CENTRAL) == 0
    assert pick([face(0, 0, 80), face(200, 199, 40)], Selection.CENTRAL) == 1


def test_the_centre_is_that_of_the_box_and_not_its_corner() -> None:
    corner_near_the_middle = Detection((195, 95, 180, 100), np.zeros((5, 2), np.float32), 0.9)
    assert pick([corner_near_the_middle, face(180, 90, 40)], Selection.CENTRAL) == 1


@pytest.mark.parametrize("index", [0, 1, 2])
def test_a_face_by_its_index(index: int) -> None:
    assert pick(THREE, Selection.INDEX, index) == index


@pytest.mark.parametrize("index", [3, 99])
def test_an_index_that_no_face_has(index: int) -> None:
    with pytest.raises(MienError) as caught:
        pick(THREE, Selection.INDEX, index)
    assert caught.value.error is Errors.FACE_INDEX_OUT_OF_RANGE
    assert caught.value.field == "probe"
    assert caught.value.face_count == 3
    assert "3 faces" in caught.value.detail


def test_several_faces_are_refused_where_the_caller_asks_for_it() -> None:
    assert pick(THREE, Selection.REFUSE) is None
    assert pick(THREE[:1], Selection.REFUSE) == 0


@pytest.mark.parametrize("selection", [*Selection])
def test_no_face_is_no_error(selection: Selection) -> None:
    assert pick([], selection, 5) is None
