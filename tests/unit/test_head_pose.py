"""Head pose: a head of known angles, seen by a camera, comes out at those angles."""

import numpy as np
import pytest
from numpy.typing import NDArray

from services.gateway.alignment import CropGeometry
from services.gateway.pose import Pose, estimate_pose

# A head in millimetres: eyes, nose tip, mouth corners; x to the picture's right, y down, z away.
HEAD = np.array(
    [
        (-31.5, -36.0, 35.0),
        (31.5, -36.0, 35.0),
        (0.0, 0.0, 0.0),
        (-26.0, 37.0, 25.0),
        (26.0, 37.0, 25.0),
    ]
)
# Another person: broader, with a flatter face.
OTHER_HEAD = HEAD * (1.08, 0.95, 0.85)
MIRRORED = [1, 0, 2, 4, 3]


def turned(yaw: float, pitch: float, roll: float) -> NDArray[np.float64]:
    """Rotation of a head: yaw to its own left, pitch down, roll to its right shoulder."""
    y, p, r = np.radians([yaw, pitch, roll])
    # The picture shows a head that looks to its own left with the nose to the right, one that
    # looks down with the nose low, and one that leans to its right shoulder leaning to the left.
    about_y = np.array([[np.cos(y), 0, -np.sin(y)], [0, 1, 0], [np.sin(y), 0, np.cos(y)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(p), -np.sin(p)], [0, np.sin(p), np.cos(p)]])
    about_z = np.array([[np.cos(r), np.sin(r), 0], [-np.sin(r), np.cos(r), 0], [0, 0, 1]])
    rotation: NDArray[np.float64] = about_y @ about_x @ about_z
    return rotation


def photograph(
    angles: tuple[float, float, float],
    head: NDArray[np.float64] = HEAD,
    distance: float = 1500.0,
    scale: float = 2000.0,
    shift: tuple[float, float] = (320.0, 240.0),
) -> NDArray[np.float32]:
    """The five points of a head in a picture.

    Args:
        angles: yaw, pitch, roll in degrees.
        head: in millimetres.
        distance: from the camera, millimetres.
        scale: focal length in pixels.
        shift: where the optical axis meets the picture.
    """
    seen = head @ turned(*angles).T + (0, 0, distance)
    return (seen[:, :2] / seen[:, 2:] * scale + shift).astype(np.float32)


def angles(pose: Pose) -> tuple[float, float, float]:
    return pose.yaw, pose.pitch, pose.roll


FRONTAL = (0.0, 0.0, 0.0)
SEEN = [
    FRONTAL,
    *((float(yaw), 0.0, 0.0) for yaw in (-60, -30, -10, 10, 30, 60)),
    *((0.0, float(pitch), 0.0) for pitch in (-30, -15, 15, 30)),
    *((0.0, 0.0, float(roll)) for roll in (-120, -45, -20, 20, 45, 120)),
    (25.0, 10.0, 0.0),
    (-25.0, 10.0, 15.0),
    (35.0, -15.0, -30.0),
    (-40.0, -10.0, 20.0),
]


@pytest.mark.parametrize("true", SEEN, ids=str)
def test_a_head_of_known_angles(true: tuple[float, float, float]) -> None:
    np.testing.assert_allclose(angles(estimate_pose(photograph(true))), true, atol=2.5)


@pytest.mark.parametrize("true", SEEN, ids=str)
@pytest.mark.parametrize("distance", [600.0, 5000.0])
def test_the_distance_of_the_camera_hardly_matters(
    true: tuple[float, float, float], distance: float
) -> None:
    found = angles(estimate_pose(photograph(true, distance=distance)))
    np.testing.assert_allclose(found, true, atol=8)


@pytest.mark.parametrize("yaw", [-45.0, -20.0, 20.0, 45.0])
def test_another_head_is_turned_to_the_same_side(yaw: float) -> None:
    found = estimate_pose(photograph((yaw, 0, 0), OTHER_HEAD))
    assert found.yaw == pytest.approx(yaw, abs=10)


def test_looking_to_ones_own_left_is_positive_yaw() -> None:
    points = photograph(FRONTAL)
    points[2, 0] += 15  # the nose moves to the picture's right
    assert estimate_pose(points).yaw > 10


def test_looking_down_is_positive_pitch() -> None:
    points = photograph(FRONTAL)
    points[2, 1] += 10  # the nose comes nearer to the mouth
    assert estimate_pose(points).pitch > 5


def test_leaning_to_the_pictures_left_is_positive_roll() -> None:
    points = photograph(FRONTAL)
    middle = points.mean(axis=0)
    turn = np.radians(30)
    # Counter-clockwise as it is seen: what is above the middle goes left.
    counter_clockwise = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    points = ((points - middle) @ counter_clockwise.T + middle).astype(np.float32)
    assert points[0, 1] > points[1, 1]
    assert estimate_pose(points).roll == pytest.approx(30, abs=2)


@pytest.mark.parametrize("true", SEEN, ids=str)
def test_a_mirrored_picture_negates_yaw_and_roll(true: tuple[float, float, float]) -> None:
    points = photograph(true)
    mirrored = (points * (-1, 1) + (640, 0)).astype(np.float32)[MIRRORED]
    pose, other = estimate_pose(points), estimate_pose(mirrored)
    expected = (-pose.yaw, pose.pitch, -pose.roll)
    np.testing.assert_allclose(angles(other), expected, atol=0.2)


@pytest.mark.parametrize("true", [FRONTAL, (30.0, -10.0, 15.0), (-50.0, 5.0, -40.0)], ids=str)
@pytest.mark.parametrize("scale", [150.0, 40_000.0])
def test_the_size_of_a_face_does_not_matter(true: tuple[float, float, float], scale: float) -> None:
    found = angles(estimate_pose(photograph(true, scale=scale)))
    np.testing.assert_allclose(found, angles(estimate_pose(photograph(true))), atol=0.3)


@pytest.mark.parametrize("shift", [(0.0, 0.0), (3990.0, 10.0), (-50.0, 2900.0)])
def test_the_place_of_a_face_does_not_matter(shift: tuple[float, float]) -> None:
    true = (30.0, -10.0, 15.0)
    found = angles(estimate_pose(photograph(true, shift=shift)))
    np.testing.assert_allclose(found, angles(estimate_pose(photograph(true))), atol=0.3)


def test_the_alignment_template_faces_the_camera() -> None:
    pose = estimate_pose(CropGeometry().points().astype(np.float32))
    np.testing.assert_allclose(angles(pose), FRONTAL, atol=6)


def test_points_that_coincide_have_no_pose() -> None:
    assert angles(estimate_pose(np.full((5, 2), 9, np.float32))) == FRONTAL


def test_points_in_a_line_give_finite_angles() -> None:
    line = np.stack([np.linspace(10, 90, 5), np.linspace(10, 90, 5)], axis=1).astype(np.float32)
    assert np.isfinite(angles(estimate_pose(line))).all()
