import numpy as np
import pytest

from models.training.pose import CROP_SIDE, TEMPLATE_3D, angles_of, euler_angles, mirror


def seen(pitch: float, yaw: float, roll: float) -> np.ndarray:
    """The five points of the template head turned by the given degrees, as a camera sees them."""
    p, y, r = np.radians([pitch, yaw, roll])
    about_x = np.array([[1, 0, 0], [0, np.cos(p), -np.sin(p)], [0, np.sin(p), np.cos(p)]])
    about_y = np.array([[np.cos(y), 0, -np.sin(y)], [0, 1, 0], [np.sin(y), 0, np.cos(y)]])
    about_z = np.array([[np.cos(r), -np.sin(r), 0], [np.sin(r), np.cos(r), 0], [0, 0, 1]])
    turned = TEMPLATE_3D @ (about_y @ about_x @ about_z).T + [0, 0, 250]
    focal = CROP_SIDE / 2 / np.tan(np.radians(30))
    centre = (CROP_SIDE - 1) / 2
    seen_at = turned[:, :2] / turned[:, 2:] * focal + centre
    return np.asarray(seen_at, dtype=np.float32)


@pytest.mark.parametrize(
    "angles", [(0, 0, 0), (0, 30, 0), (0, -60, 0), (15, 0, 0), (-10, 20, 0), (5, 40, 10)]
)
def test_the_pose_of_the_template_head_is_recovered(angles: tuple[float, float, float]) -> None:
    assert euler_angles(seen(*angles)) == pytest.approx(angles, abs=0.5)


def test_yaw_is_positive_when_the_nose_points_to_the_right_edge() -> None:
    points = seen(0, 25, 0)
    assert points[2, 0] > points[:2, 0].mean()
    assert euler_angles(points)[1] > 20


def test_a_mirrored_face_has_the_opposite_yaw_and_roll_of_equal_size() -> None:
    rng = np.random.default_rng(0)
    for angles in [(3, 12, 2), (-8, -35, 5), (10, 55, -4)]:
        points = seen(*angles) + rng.normal(0, 0.5, (5, 2)).astype(np.float32)
        pitch, yaw, roll = euler_angles(points)
        assert abs(yaw) > 5
        mirrored = euler_angles(mirror(points, CROP_SIDE))
        assert mirrored == pytest.approx([pitch, -yaw, -roll], abs=0.05)


def test_mirroring_twice_changes_nothing() -> None:
    points = seen(4, 20, 3)
    assert np.allclose(mirror(mirror(points, 112), 112), points, atol=1e-4)


def test_no_rotation_is_a_frontal_face() -> None:
    assert angles_of(np.eye(3)) == pytest.approx([0, 0, 0])


def test_points_that_are_not_numbers_have_no_pose() -> None:
    assert np.isnan(euler_angles(np.full((5, 2), np.nan, dtype=np.float32))).all()
