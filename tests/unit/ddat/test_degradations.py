import subprocess
import sys

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from models.ddat import degradations
from models.ddat.degradations import (
    Domain,
    DomainName,
    SourceDomain,
    TargetDomain,
    cell_pixels,
    decimate,
    draw_side,
    eye_distance,
    levels,
    network_input,
    scaled,
    shrink_by_area,
    up_sample,
)
from services.evaluation.alteration import shrink

Bytes = npt.NDArray[np.uint8]

DOMAINS: dict[DomainName, Domain] = {
    "area": degradations.AreaDomain(),
    "source": SourceDomain(0.25, 0.5),
    "target": TargetDomain(),
}


def face(seed: int = 0) -> Bytes:
    """A smooth random picture, (112,112,3)."""
    coarse = np.random.default_rng(seed).integers(0, 256, (9, 9, 3)).astype(np.uint8)
    return np.asarray(cv2.resize(coarse, (112, 112), interpolation=cv2.INTER_CUBIC))


def middle(picture: Bytes) -> npt.NDArray[np.float64]:
    """Centre of mass, (x, y), of brightness; pixel centres at whole numbers."""
    weight = picture.astype(float).sum(axis=2)
    places = np.arange(len(picture))
    moments = [(weight.sum(axis=axis) * places).sum() for axis in (0, 1)]
    return np.asarray(np.array(moments) / weight.sum())


@pytest.mark.parametrize(
    ("place", "survives"), [(0, False), (1, False), (2, True), (3, False)], ids=str
)
def test_of_four_pixels_the_third_survives(place: int, survives: bool) -> None:
    picture = np.zeros((112, 112, 3), np.uint8)
    picture[40 + place, 40 + place] = 255
    small = decimate(picture, 28)
    assert small[10, 10].max() == (255 if survives else 0)
    assert small.sum() == (3 * 255 if survives else 0)


def test_the_kept_pixel_holds_the_cells_centre_at_every_size() -> None:
    for side in range(6, 113):
        kept = cell_pixels(side, 112)
        centre = (np.arange(side) + 0.5) * 112 / side
        assert ((kept <= centre) & (centre < kept + 1)).all(), side
    assert cell_pixels(28, 112)[:3].tolist() == [2, 6, 10]
    assert cell_pixels(16, 112)[:3].tolist() == [3, 10, 17]


@pytest.mark.parametrize("side", [12, 16, 21, 28, 45, 64])
def test_up_sampling_by_nearest_gives_back_what_was_kept(side: int) -> None:
    small = decimate(face(), side)
    large = up_sample(small, "nearest")
    assert large.shape == (112, 112, 3)
    assert (decimate(large, side) == small).all()
    # Every pixel shows the cell that it lies in.
    cell = ((np.arange(112) + 0.5) * side / 112).astype(int)
    assert (large == small[cell][:, cell]).all()


@pytest.mark.parametrize("side", [12, 16, 28, 37, 64])
@pytest.mark.parametrize("way", ["area", "decimate"])
@pytest.mark.parametrize("kernel", ["nearest", "bicubic"])
def test_no_way_down_and_up_moves_a_face(side: int, way: str, kernel: degradations.Up) -> None:
    blob = np.zeros((112, 112), np.float32)
    cv2.circle(blob, (56, 56), 30, 255.0, -1)
    blob = cv2.GaussianBlur(blob, (0, 0), 8)
    picture = np.repeat(blob[..., None], 3, axis=2).astype(np.uint8)
    small = shrink_by_area(picture, side) if way == "area" else decimate(picture, side)
    moved = middle(up_sample(small, kernel)) - middle(picture)
    # Decimation is free to take the pixel right of an even cell's centre: half a pixel.
    assert np.abs(moved).max() < (0.62 if way == "decimate" else 0.15)


def test_opencvs_own_nearest_kernel_would_move_it() -> None:
    picture = face()
    small = cv2.resize(picture, (16, 16), interpolation=cv2.INTER_NEAREST)
    assert (small == picture[::7, ::7]).all()  # the corner of each cell
    assert (decimate(picture, 16) == picture[3::7, 3::7]).all()  # its centre


@pytest.mark.parametrize("side", [12, 20, 28, 64])
def test_area_is_what_evaluation_does_with_probes(side: int) -> None:
    picture = face()
    data = cv2.imencode(".png", picture[..., ::-1])[1].tobytes()
    theirs = cv2.imdecode(np.frombuffer(shrink(data, side), np.uint8), cv2.IMREAD_COLOR)
    assert theirs is not None
    assert (shrink_by_area(picture, side) == theirs[..., ::-1]).all()


def test_the_spec_blur_is_near_a_cells_mean() -> None:
    picture = face()
    rng = np.random.default_rng(0)
    mean = shrink_by_area(picture, 28).astype(float)
    alike = SourceDomain(0.29, 0.29).degrade(picture, 28, rng).astype(float)
    raw = decimate(picture, 28).astype(float)
    assert np.abs(alike - mean).mean() < np.abs(raw - mean).mean()


@pytest.mark.parametrize("name", list(DOMAINS))
@pytest.mark.parametrize("side", [12, 28, 50])
def test_a_domain_is_repeatable_by_its_generator_alone(name: DomainName, side: int) -> None:
    domain = DOMAINS[name]

    def once(seed: int) -> Bytes:
        return domain.degrade(face(), side, np.random.default_rng(seed))

    assert once(1).shape == (side, side, 3)
    assert once(1).dtype == np.uint8
    assert (once(1) == once(1)).all()
    assert (once(1) != once(2)).any() == (name != "area")


def test_target_faces_are_noisier_than_source_faces() -> None:
    flat = np.full((112, 112, 3), 120, np.uint8)
    rng = np.random.default_rng(0)
    spread: dict[DomainName, float] = {}
    for name in ("source", "target"):
        small = [DOMAINS[name].degrade(flat, 28, rng) for _ in range(10)]
        spread[name] = float(np.mean([picture.astype(float).std() for picture in small]))
    assert spread["source"] == 0
    assert spread["target"] > 1


def test_noise_has_the_variance_that_it_promises() -> None:
    rng = np.random.default_rng(0)
    dark, bright = (np.full((200, 200, 3), level, np.uint8) for level in (40, 160))
    for picture in (dark, bright):
        level = float(picture[0, 0, 0])
        noisy = degradations.sensor_noise(picture, 0.5, 3.0, rng).astype(float)
        assert noisy.mean() == pytest.approx(level, abs=0.3)
        assert noisy.var() == pytest.approx(0.5 * level + 9.0, rel=0.05)
    assert (degradations.sensor_noise(dark, 0, 0, rng) == dark).all()


def test_motion_smears_along_its_path_and_keeps_brightness() -> None:
    picture = np.zeros((41, 41, 3), np.uint8)
    picture[20, 20] = 250
    across = degradations.motion_blur(picture, 9.0, 0.0)
    assert across[20, 16:25].min() > 0
    assert across[20, :16].max() == across[20, 25:].max() == 0
    assert across[:20].max() == across[21:].max() == 0
    down = degradations.motion_blur(picture, 9.0, 90.0)
    assert (down == across.transpose(1, 0, 2)).all()
    assert (degradations.motion_blur(picture, 1.0, 30.0) == picture).all()


def test_gamma_keeps_black_and_white_and_moves_what_is_between() -> None:
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)[..., None].repeat(3, axis=2)
    dark, bright = degradations.gamma(ramp, 1.4), degradations.gamma(ramp, 1 / 1.4)
    for bent in (dark, bright):
        assert (bent[0, 0, 0], bent[-1, -1, 0]) == (0, 255)
    assert (dark <= ramp).all()
    assert (bright >= ramp).all()
    assert dark[8, 0, 0] < 120
    assert bright[8, 0, 0] > 134


def test_jpeg_keeps_the_order_of_colours_and_loses_more_at_low_quality() -> None:
    picture = face()
    picture[..., 0] = 230
    picture[..., 2] = 10
    kept = degradations.jpeg(picture, 90)
    assert kept[..., 0].mean() > 200
    assert kept[..., 2].mean() < 60
    errors = [
        np.abs(degradations.jpeg(face(), quality).astype(float) - face()).mean()
        for quality in (90, 50, 25)
    ]
    assert errors == sorted(errors)


def test_sides_are_drawn_over_the_whole_range_as_often_small_as_large() -> None:
    rng = np.random.default_rng(0)
    sides = np.array([draw_side(rng, 12, 64) for _ in range(4000)])
    assert (sides.min(), sides.max()) == (12, 64)
    assert (sides < np.sqrt(12 * 64)).mean() == pytest.approx(0.5, abs=0.03)
    assert eye_distance(112) == pytest.approx(35.24)
    assert eye_distance(28) == pytest.approx(35.24 / 4)


def test_the_networks_numbers_go_from_minus_1_to_1_and_back() -> None:
    picture = face()
    picture[0, 0], picture[0, 1] = 0, 255
    image = scaled(picture)
    assert image.shape == (3, 112, 112)
    assert (image.min(), image.max()) == (-1, 1)
    assert (levels(image) == picture).all()
    assert (levels(image[None] * 3)[0, 0, 1] == 255).all()
    small = decimate(picture, 28)
    assert (levels(network_input(small, "bicubic")) == up_sample(small, "bicubic")).all()


def test_serving_can_import_the_module_without_torch() -> None:
    code = "import sys, models.ddat.degradations; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
