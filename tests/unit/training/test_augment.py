import cv2
import numpy as np
import pytest

from models.training.augment import NONE, Augmentation, augment, change_look
from models.training.pose import euler_angles
from models.training.warp import TEMPLATE, fit_similarity, move_points, random_jitter, turn_face

STILL = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
POINTS = TEMPLATE + 8
LOOKS = ["light", "low_resolution", "blur", "grey", "near_infrared", "occlusion", "jpeg"]


def dotted() -> np.ndarray:
    """A grey crop with a white dot on each of the five points."""
    crop = np.full((128, 128, 3), 90, np.uint8)
    for x, y in POINTS:
        cv2.circle(crop, (round(float(x)), round(float(y))), 2, (255, 255, 255), -1)
    return crop


def noisy() -> np.ndarray:
    rng = np.random.default_rng(1)
    coarse = rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(coarse, (128, 128), interpolation=cv2.INTER_CUBIC))


def brightness_at(picture: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The brightest pixel within 2 px of each point."""
    wide = cv2.dilate(np.ascontiguousarray(picture[..., 1]), np.ones((5, 5), np.uint8))
    return np.array([wide[round(float(y)), round(float(x))] for x, y in points])


def only(**chances: float) -> Augmentation:
    return NONE.model_copy(update=chances)


def test_everything_off_gives_the_template_crop() -> None:
    crop = noisy()
    sample = augment(crop, POINTS, euler_angles(TEMPLATE), NONE, np.random.default_rng(0))
    assert np.array_equal(sample.picture, crop[8:120, 8:120])
    assert np.allclose(sample.points, TEMPLATE, atol=1e-4)


def test_a_flip_negates_yaw_and_moves_points_with_the_picture() -> None:
    euler = np.array([3.0, 20.0, -2.0], np.float32)
    sample = augment(dotted(), POINTS, euler, only(flip=1), np.random.default_rng(0))
    assert sample.euler == pytest.approx([3, -20, 2])
    assert (brightness_at(sample.picture, sample.points) > 200).all()
    assert sample.points[0, 0] < sample.points[1, 0]


def test_jitter_carries_the_points_along() -> None:
    for seed in range(5):
        rng = np.random.default_rng(seed)
        sample = augment(dotted(), POINTS, euler_angles(TEMPLATE), only(jitter=1), rng)
        assert (brightness_at(sample.picture, sample.points) > 150).all()


@pytest.mark.parametrize("degrees", [-45, -20, 20, 45])
def test_a_turn_changes_yaw_its_own_way_and_carries_the_points(degrees: float) -> None:
    picture, points = turn_face(dotted(), POINTS, degrees, STILL, 8)
    yaw = euler_angles(points)[1]
    assert np.sign(yaw) == np.sign(degrees)
    assert 0.5 * abs(degrees) < abs(yaw) < 1.2 * abs(degrees)
    visible = [2, 1 if degrees < 0 else 0]
    assert (brightness_at(picture, points)[visible] > 130).all()


def test_turned_faces_are_aligned_again() -> None:
    _, points = turn_face(dotted(), POINTS, 40, STILL, 8)
    again = fit_similarity(points, TEMPLATE)
    assert again == pytest.approx(STILL, abs=1e-3)


def test_profiles_are_not_turned_further() -> None:
    euler = np.array([0.0, 35.0, 0.0], np.float32)
    sample = augment(noisy(), POINTS, euler, only(turn=1), np.random.default_rng(0))
    assert sample.euler[1] == 35


@pytest.mark.parametrize("look", LOOKS)
def test_each_look_can_be_switched_on_by_itself(look: str) -> None:
    picture = np.ascontiguousarray(noisy()[8:120, 8:120])
    changed = change_look(picture, only(**{look: 1.0}), np.random.default_rng(0))
    assert changed.shape == picture.shape
    assert changed.dtype == np.uint8
    assert not np.array_equal(changed, picture)


@pytest.mark.parametrize("look", ["grey", "near_infrared"])
def test_grey_looks_have_three_equal_channels(look: str) -> None:
    picture = np.ascontiguousarray(noisy()[8:120, 8:120])
    changed = change_look(picture, only(**{look: 1.0}), np.random.default_rng(0))
    assert (changed == changed[..., :1]).all()


def test_chance_comes_from_the_generator_alone() -> None:
    def sample() -> np.ndarray:
        everything = Augmentation()
        rng = np.random.default_rng((7, 1))
        return augment(noisy(), POINTS, euler_angles(TEMPLATE), everything, rng).picture

    assert np.array_equal(sample(), sample())


def test_a_similarity_is_recovered_from_its_points() -> None:
    matrix = random_jitter(np.random.default_rng(2), 10, 0.1, 5)
    assert fit_similarity(TEMPLATE, move_points(TEMPLATE, matrix)) == pytest.approx(
        matrix, abs=1e-3
    )
