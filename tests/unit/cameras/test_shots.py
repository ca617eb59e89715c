"""Which faces are looked at closely, and how."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from services.cameras import shots
from services.cameras.frames import wanted
from services.cameras.messages import BestShot, Why
from services.cameras.track import Track
from services.gateway.decision import Cause
from services.gateway.detection import Detection
from services.gateway.enhancement import Enhancement, Status
from services.gateway.faces import Face
from services.gateway.pose import Pose
from services.gateway.quality import Quality
from services.modality import Modality
from tests.unit.cameras.people import DEFAULT, MODEL, SETTINGS, face, look, of, shot, vector


def track_of(seen: Detection) -> Track:
    return Track("t", "c", of(0), 0.0, 0.0, 0.0, seen.box, (0.5, 0.5), 0.1)


def measured(seen: Detection, quality: float = 60.0, **parts: float) -> Face:
    components = {"inter_eye_distance": 50.0, "sharpness": 50.0, **parts}
    pose = Pose(0.0, 0.0, 0.0)
    return Face(seen, pose, Quality(quality, components), Modality.VISIBLE, 24.0, 60.0)


def test_an_undecided_face_is_looked_at_until_there_are_enough_shots() -> None:
    track = track_of(face(100))
    for number in range(SETTINGS.max_shots):
        assert shots.is_due(track, face(100), float(number), SETTINGS)
        track.add(shot(vector(1)), MODEL, SETTINGS.max_shots)
        track.best = BestShot(of(number), measured(face(100)), None, False)
    assert not shots.is_due(track, face(100), 99.0, SETTINGS)


def test_a_recognised_face_is_looked_at_again_when_it_comes_clearly_nearer() -> None:
    track = track_of(face(100))
    for _ in range(2):
        track.add(shot(vector(1)), MODEL, 5)
    track.best = BestShot(of(0), measured(face(100)), None, False)
    track.verdict.take(look("ada", strong=True))
    assert not shots.is_due(track, face(100), 9.0, SETTINGS)
    assert shots.is_due(track, face(100, size=90.0), 9.0, SETTINGS)
    track.verdict.looks = SETTINGS.max_looks
    assert not shots.is_due(track, face(100, size=90.0), 9.0, SETTINGS)


def test_only_one_shot_of_a_face_waits_at_a_time_and_poor_ones_are_spaced_out() -> None:
    track = track_of(face(100))
    track.pending = True
    assert not shots.is_due(track, face(100), 9.0, SETTINGS)
    spaces = []
    for poor in range(1, 7):
        track.poor = poor
        spaces.append(shots.spacing(track))
    assert spaces == sorted(spaces)
    assert spaces[-1] > 4 * spaces[0]
    assert spaces[-1] < 3.0


class _Enlarging:
    """Finds a face in the middle of a view, a little off where it was first seen."""

    def detect_as_is(self, pixels: np.ndarray) -> list[Detection]:
        return [face(pixels.shape[1] / 2 + 4.0, pixels.shape[0] / 2, 92.0)]

    def prepared(self, *_: object) -> object:
        raise AssertionError("it is not asked")


def test_a_small_face_is_found_more_exactly_in_a_view_of_it() -> None:
    seen = face(300, 200, 30.0)
    better = shots.refined(np.zeros((480, 640, 3), np.uint8), seen, _Enlarging())  # type: ignore[arg-type]
    moved = better.points.mean(axis=0) - seen.points.mean(axis=0)
    assert moved[0] == pytest.approx(4.0 * 39.0 / 120.0, abs=0.2)
    assert abs(moved[1]) < 0.5
    assert better.box == seen.box


def test_the_reason_is_what_is_worst() -> None:
    assert shots.why_not([Cause.EXTREME_POSE], measured(face(1))) is Why.EXTREME_POSE
    small = measured(face(1), inter_eye_distance=3.0)
    assert shots.why_not([Cause.POOR_QUALITY], small) is Why.TOO_SMALL
    blurred = measured(face(1), sharpness=3.0)
    assert shots.why_not([Cause.POOR_QUALITY], blurred) is Why.POOR_QUALITY


def test_a_region_is_in_shares_of_the_frame() -> None:
    left = DEFAULT.model_copy(update={"region": ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))})
    assert wanted(face(100), left, 640, 480)
    assert not wanted(face(400), left, 640, 480)
    assert wanted(face(400), left, 1280, 960)
    assert not wanted(face(100, size=20.0), left, 640, 480)


def test_only_shots_without_enhancement_are_fused_once_there_are_two() -> None:
    track = track_of(face(100))
    drawn = replace(shot(vector(3)), enhancement=Enhancement(Status.APPLIED, 8.0))
    for one in (drawn, shot(vector(1)), shot(vector(1))):
        track.add(one, MODEL, 5)
    template = track.template()
    assert template is not None
    assert template[3] == 0.0
    assert len(track.fused()) == 2
