"""Detection around the network: which scales are searched, how cells become faces."""

from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.zoo import DetectorCard
from models.zoo.card_base import Weights
from services.gateway.detection import (
    Detection,
    FaceDetector,
    _merge,
    _round_up,
    enlargement,
    scales,
)
from services.runtime import Arrays, EngineInfo
from services.runtime.engine import TensorInfo

STRIDES = (8, 16, 32)
CARD = DetectorCard(
    name="fake", version="1", weights=Weights(sha256="0" * 64, size_bytes=1), strides=STRIDES
)
Blob = NDArray[np.float32]
MILLION = 1_000_000


# --- the scales ------------------------------------------------------------------------------


@st.composite
def sizes(draw: st.DrawFn) -> tuple[int, int]:
    """Height and width of any picture that Mien takes: at most 40 million pixels, 16 a side."""
    short = draw(st.integers(16, 6324))
    long = draw(st.integers(short, max(short, 40 * MILLION // short)))
    return (short, long) if draw(st.booleans()) else (long, short)


def searched(height: int, width: int, scale: float) -> int:
    """Pixels of one pass, padding included."""
    return _round_up(max(1, round(height * scale))) * _round_up(max(1, round(width * scale)))


@given(sizes())
@example((16, 2_500_000))
@example((2_500_000, 16))
@example((610, 65_535))
@example((6324, 6324))
@example((16, 16))
def test_the_work_is_bounded_for_every_picture(size: tuple[int, int]) -> None:
    chosen = scales(*size)
    assert chosen
    assert len(set(chosen)) == len(chosen)
    assert all(0 < scale <= 1 for scale in chosen)
    assert sum(searched(*size, scale) for scale in chosen) < 6 * MILLION


@given(sizes())
def test_no_picture_of_a_usual_shape_shrinks_to_nothing(size: tuple[int, int]) -> None:
    shorter, longer = min(size), max(size)
    if longer <= 500 * shorter:
        assert all(scale * shorter >= 15.99 for scale in scales(*size))


@given(sizes())
def test_lying_and_standing_pictures_are_searched_alike(size: tuple[int, int]) -> None:
    assert scales(*size) == scales(*size[::-1])


@given(sizes())
def test_a_face_that_fills_the_picture_is_seen_at_a_size_that_the_network_knows(
    size: tuple[int, int],
) -> None:
    height, width = size
    if max(size) <= 3 * min(size):
        assert min(scales(height, width)) * min(size) <= 400


@pytest.mark.parametrize("size", [(3000, 4000), (4000, 3000), (3464, 3464), (2000, 6000)])
def test_small_faces_in_a_picture_of_12_million_pixels_are_seen(size: tuple[int, int]) -> None:
    # 20 pixels between the eyes become 8: a face of some 20 pixels, which YuNet finds.
    assert max(scales(*size)) >= 0.4


@pytest.mark.parametrize("size", [(250, 250), (480, 640), (600, 400)])
def test_a_small_picture_is_searched_as_it_is(size: tuple[int, int]) -> None:
    assert max(scales(*size)) == 1


# --- joining rows ----------------------------------------------------------------------------


def row(x: float, y: float, side: float, score: float, nose: float = 0.0) -> NDArray[np.float32]:
    """A candidate: its box, and five points of which the third carries a mark."""
    points = [x, y, x + side, y, x + side / 2 + nose, y + side / 2, x, y + side, x + side, y + side]
    return np.array([x, y, side, side, score, *points], np.float32)


def merged(*rows: NDArray[np.float32]) -> list[Detection]:
    return sorted(_merge(np.stack(rows)), key=lambda face: face.box[0])


def test_nothing_gives_nothing() -> None:
    assert _merge(np.empty((0, 15), np.float32)) == []


def test_a_single_row_stays_as_it_is() -> None:
    (face,) = merged(row(10, 20, 40, 0.8))
    assert face.box == pytest.approx((10, 20, 40, 40))
    assert face.score == pytest.approx(0.8)
    np.testing.assert_allclose(face.points, row(10, 20, 40, 0.8)[5:].reshape(5, 2))


def test_faces_side_by_side_stay_apart() -> None:
    found = merged(row(0, 0, 40, 0.9), row(41, 0, 40, 0.7), row(200, 0, 40, 0.8))
    assert [face.box[0] for face in found] == [0, 41, 200]
    assert [round(face.score, 2) for face in found] == [0.9, 0.7, 0.8]


def test_rows_of_one_face_become_their_mean_weighted_by_score() -> None:
    (face,) = merged(row(10, 10, 100, 0.9, nose=3), row(14, 10, 100, 0.6, nose=-3))
    assert face.box[0] == pytest.approx((10 * 0.9 + 14 * 0.6) / 1.5, abs=1e-4)
    expected = (63 * 0.9 + 61 * 0.6) / 1.5
    assert face.points[2, 0] == pytest.approx(expected, abs=1e-4)
    assert face.score == pytest.approx(0.9), "the score is the best one, not the mean"


def test_a_row_that_overlaps_little_has_no_vote() -> None:
    # Overlap of 0.38: the same face by non-maximum suppression, but too far off to be averaged.
    (face,) = merged(row(0, 0, 100, 0.9), row(45, 0, 100, 0.8))
    assert face.box == (0, 0, 100, 100)


def test_the_order_of_rows_does_not_matter() -> None:
    rows = [row(0, 0, 50, 0.9), row(2, 1, 50, 0.8), row(80, 0, 30, 0.7), row(81, 0, 30, 0.95)]
    one, other = merged(*rows), merged(*rows[::-1])
    assert len(one) == len(other) == 2
    for left, right in zip(one, other, strict=True):
        np.testing.assert_allclose(left.box, right.box, rtol=1e-5)


# --- from cells to faces ---------------------------------------------------------------------


class FakeNetwork:
    """Answers as YuNet does, with a face wherever the picture has a pixel of pure red.

    Attributes:
        shapes: height and width of each input so far.
    """

    def __init__(self, score: float = 0.81, stride: int = 8) -> None:
        self.score = score
        self.stride = stride
        self.shapes: list[tuple[int, int]] = []
        self.info = EngineInfo(
            engine="fake 1",
            device="CPU",
            precision="fp32",
            streams=2,
            threads=1,
            inputs=(TensorInfo("picture", (1, 3, -1, -1)),),
            outputs=(),
        )

    def infer(self, inputs: Mapping[str, Blob]) -> Arrays:
        (blob,) = inputs.values()
        _, _, height, width = blob.shape
        assert height % 32 == 0
        assert width % 32 == 0
        self.shapes.append((height, width))
        outputs: Arrays = {}
        for stride in STRIDES:
            cells = (height // stride) * (width // stride)
            outputs[f"cls_{stride}"] = np.zeros((1, cells, 1), np.float32)
            outputs[f"obj_{stride}"] = np.zeros((1, cells, 1), np.float32)
            outputs[f"bbox_{stride}"] = np.zeros((1, cells, 4), np.float32)
            outputs[f"kps_{stride}"] = np.zeros((1, cells, 10), np.float32)
        # BGR: red is the last channel.
        blue, _, red = blob[0]
        for y, x in np.argwhere((red > 200) & (blue < 50)):
            self._put(outputs, x, y, width)
        return outputs

    def _put(self, outputs: Arrays, x: int, y: int, width: int) -> None:
        stride = self.stride
        column, line = x // stride, y // stride
        cell = line * (width // stride) + column
        # Centre half a cell on, 4 x 6 cells large; points at -1, 1, 0, -1, 1 cells beside it.
        outputs[f"cls_{stride}"][0, cell] = self.score**2
        outputs[f"obj_{stride}"][0, cell] = 1.0
        outputs[f"bbox_{stride}"][0, cell] = (0.5, 0.5, np.log(4), np.log(6))
        outputs[f"kps_{stride}"][0, cell] = (-1, -1, 2, -1, 0.5, 0.5, -1, 2, 2, 2)

    def close(self) -> None:
        """Nothing to free."""


def picture(height: int, width: int, *red: tuple[int, int]) -> NDArray[np.uint8]:
    """A black picture with red pixels at the given rows and columns."""
    made = np.zeros((height, width, 3), np.uint8)
    for y, x in red:
        made[y, x] = (255, 0, 0)
    return made


@pytest.mark.parametrize("stride", STRIDES)
def test_a_cell_becomes_a_face_in_pixels_of_the_picture(stride: int) -> None:
    network = FakeNetwork(stride=stride)
    column, line = 5, 3
    spot = (line * stride + 2, column * stride + 3)
    (face,) = FaceDetector(CARD, network).detect(picture(250, 300, spot))
    x, y = (column + 0.5) * stride, (line + 0.5) * stride
    assert face.box == pytest.approx((x - 2 * stride, y - 3 * stride, 4 * stride, 6 * stride))
    assert face.score == pytest.approx(0.81, abs=1e-5)
    cells = np.array([(-1, -1), (2, -1), (0.5, 0.5), (-1, 2), (2, 2)])
    np.testing.assert_allclose(face.points, (cells + np.array([column, line])) * stride)
    assert face.area == pytest.approx(24 * stride**2)


def test_a_face_in_a_large_picture_is_told_in_pixels_of_that_picture() -> None:
    made = np.zeros((1280, 1920, 3), np.uint8)
    made[597:603, 900:906] = (255, 0, 0)
    network = FakeNetwork()
    (face,) = FaceDetector(CARD, network).detect(made)
    assert len(network.shapes) == len(scales(1280, 1920)) > 1
    x, y, width, height = face.box
    assert x + width / 2 == pytest.approx(903, abs=26)
    assert y + height / 2 == pytest.approx(600, abs=26)
    assert face.points[2] == pytest.approx((x + width / 2, y + height / 2), abs=1e-2)


def test_faces_come_largest_first_and_no_more_than_asked_for() -> None:
    class TwoSizes(FakeNetwork):
        def _put(self, outputs: Arrays, x: int, y: int, width: int) -> None:
            self.stride = 8 if x < 150 else 32
            super()._put(outputs, x, y, width)

    made = picture(250, 300, (40, 40), (150, 220))
    large, small = FaceDetector(CARD, TwoSizes()).detect(made)
    assert large.area > small.area
    (only,) = FaceDetector(CARD, TwoSizes(), max_faces=1).detect(made)
    assert only.area == large.area


def test_a_face_below_the_least_score_is_left_out_when_there_is_a_better_one() -> None:
    class Mixed(FakeNetwork):
        def _put(self, outputs: Arrays, x: int, y: int, width: int) -> None:
            self.score = 0.9 if x < 150 else 0.5
            super()._put(outputs, x, y, width)

    made = picture(250, 300, (40, 40), (150, 220))
    assert len(FaceDetector(CARD, Mixed(), min_score=0.6).detect(made)) == 1
    assert len(FaceDetector(CARD, Mixed(), min_score=0.4).detect(made)) == 2


def test_a_doubtful_face_is_taken_when_there_is_no_other() -> None:
    spot = (83, 163)
    network = FakeNetwork(score=0.4)
    (face,) = FaceDetector(CARD, network, min_score=0.6).detect(picture(250, 300, spot))
    x, y, width, height = face.box
    assert x + width / 2 == pytest.approx(163, abs=8), "in pixels of the picture, without border"
    assert y + height / 2 == pytest.approx(83, abs=8)
    nose = face.points[2]
    assert nose == pytest.approx((x + width / 2, y + height / 2), abs=1e-3)
    assert FaceDetector(CARD, FakeNetwork(score=0.2)).detect(picture(250, 300, spot)) == []


def test_a_face_whose_centre_is_only_in_the_border_is_no_face() -> None:
    class Beside(FakeNetwork):
        def _put(self, outputs: Arrays, x: int, y: int, width: int) -> None:
            super()._put(outputs, max(0, x - 64), y, width)

    assert FaceDetector(CARD, Beside(score=0.4)).detect(picture(250, 300, (80, 20))) == []


def test_a_picture_without_faces() -> None:
    assert FaceDetector(CARD, FakeNetwork()).detect(picture(250, 300)) == []


@pytest.mark.parametrize("size", [(16, 100_000), (60_000, 20), (16, 16), (3000, 4000)])
def test_no_shape_of_a_picture_makes_the_search_large(size: tuple[int, int]) -> None:
    # The second search, with a border, counts too: it runs because there is no face.
    network = FakeNetwork()
    assert FaceDetector(CARD, network).detect(np.zeros((*size, 3), np.uint8)) == []
    assert sum(height * width for height, width in network.shapes) < 12 * MILLION


def test_warm_up_prepares_the_sizes_that_usual_pictures_take() -> None:
    network = FakeNetwork()
    detector = FaceDetector(CARD, network)
    detector.warm_up()
    prepared = set(network.shapes)
    assert len(network.shapes) == len(prepared) * network.info.streams
    for height, width in [(250, 250), (480, 640), (640, 480), (960, 1280), (1080, 1920)]:
        network.shapes.clear()
        detector.detect(picture(height, width))
        usual = scales(height, width).index(min(1.0, 640 / max(height, width)))
        assert network.shapes[usual] in prepared


class FromSixteenPixels(FakeNetwork):
    """Sees nothing in what is less than 64 pixels large, as YuNet sees no face of 12 pixels."""

    def infer(self, inputs: Mapping[str, Blob]) -> Arrays:
        (blob,) = inputs.values()
        seen = int((blob[0].max(axis=(0, 1)) > 0).sum())
        return super().infer(inputs if seen > 64 else {"picture": np.zeros_like(blob)})


def red_square(height: int, width: int, y: int, x: int) -> NDArray[np.uint8]:
    """A grey picture with nine red pixels around a place."""
    made = np.full((height, width, 3), 90, np.uint8)
    made[y - 1 : y + 2, x - 1 : x + 2] = (255, 0, 0)
    return made


def test_a_small_picture_without_a_face_is_searched_enlarged() -> None:
    network = FromSixteenPixels()
    found = FaceDetector(CARD, network).detect(red_square(40, 50, 21, 33))
    assert network.shapes == [(64, 64), (320, 448)], "as it is, then eight times as large"
    for face in found:
        x, y, width, height = face.box
        assert (x + width / 2, y + height / 2) == pytest.approx((33, 21), abs=2)
        assert face.points[2] == pytest.approx((33, 21), abs=2)
    middle = np.mean([face.points[2] for face in found], axis=0)
    assert middle == pytest.approx((33, 21), abs=0.5)


def test_a_picture_with_a_face_or_of_a_usual_size_is_not_enlarged() -> None:
    network = FakeNetwork()
    assert FaceDetector(CARD, network).detect(red_square(40, 50, 21, 33))
    assert network.shapes == [(64, 64)]
    network = FakeNetwork()
    assert not FaceDetector(CARD, network).detect(np.full((480, 640, 3), 90, np.uint8))
    assert max(max(shape) for shape in network.shapes) <= 1024, "with a border, no larger"


@given(sizes())
def test_enlarging_is_bounded(size: tuple[int, int]) -> None:
    factor = enlargement(*size)
    assert 1 <= factor <= 8
    if factor > 1:
        assert searched(*size, factor) <= 512 * 512
