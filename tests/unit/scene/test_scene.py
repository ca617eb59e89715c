"""Made-up clips: the same each time, and true about what they show."""

from __future__ import annotations

import itertools
from pathlib import Path

import cv2
import numpy as np
import pytest

from models.zoo import Zoo
from services.bench.camera_clips import divided, make_clips
from services.bench.camera_truth import in_view
from services.bench.scene import (
    Actor,
    Cutout,
    Light,
    Scene,
    SceneFrame,
    SceneOptions,
    demo_people,
    people_of,
)
from services.gateway.detection import FaceDetector
from services.gateway.server import load_detector
from services.settings import Settings

PLAIN = SceneOptions(pillars=0, passers=0, seconds=15)


def _head(shade: tuple[int, int, int]) -> Cutout:
    pixels = np.full((200, 160, 3), shade, np.uint8)
    return Cutout(pixels, np.ones((200, 160), np.float32), (20.0, 20.0, 120.0, 160.0), 50.0)


RED, BLUE = (0, 0, 255), (255, 0, 0)
ONE = [Actor("a", (_head(RED),))]
TWO = [*ONE, Actor("b", (_head(BLUE),))]


def _frames(actors: list[Actor], options: SceneOptions = PLAIN, seed: int = 1) -> list[SceneFrame]:
    return list(Scene(actors, options, seed).frames())


def _is(frame: SceneFrame, shade: tuple[int, int, int]) -> np.ndarray:
    return np.asarray((np.abs(frame.pixels.astype(int) - shade) < 30).all(axis=2))


def test_the_same_seed_makes_the_same_clip_and_another_seed_another() -> None:
    scene = Scene(TWO, SceneOptions(), 5)
    first, again = list(scene.frames()), list(scene.frames())
    other = _frames(TWO, SceneOptions(), 6)
    for a, b, c in zip(first, again, _frames(TWO, SceneOptions(), 5), strict=True):
        assert np.array_equal(a.pixels, b.pixels)
        assert np.array_equal(a.pixels, c.pixels)
        assert a.people == b.people == c.people
    assert any(a.people != d.people for a, d in zip(first, other, strict=True))


def test_a_clip_has_its_length_rate_and_size() -> None:
    frames = _frames(ONE, SceneOptions(width=320, height=200, fps=4, seconds=3))
    assert [frame.seconds for frame in frames] == [number / 4 for number in range(12)]
    assert {frame.pixels.shape for frame in frames} == {(200, 320, 3)}


def test_the_true_box_lies_on_the_face() -> None:
    checked = 0
    for frame in _frames(ONE):
        for one in frame.people:
            if one.visible < 0.999:
                continue
            x, y, w, h = (round(side) for side in one.box)
            inside = _is(frame, RED)[y : y + h, x : x + w]
            assert inside.mean() > 0.97
            assert one.eyes == pytest.approx(one.box[3] * 50 / 160)
            checked += 1
    assert checked > 10


def test_the_visible_share_is_what_pixels_show() -> None:
    """With somebody in front, and at the edges."""
    hidden = 0
    for seed in range(5):
        for frame in _frames(TWO, seed=seed):
            for one, shade in zip(frame.people, (RED, BLUE), strict=False):
                if one.person != ("a" if shade == RED else "b"):
                    continue
                x, y, w, h = one.box
                left, top = max(round(x), 0), max(round(y), 0)
                part = _is(frame, shade)[top : max(round(y + h), 0), left : max(round(x + w), 0)]
                assert one.visible == pytest.approx(part.sum() / (w * h), abs=0.08)
                hidden += 0.1 < one.visible < 0.9
    assert hidden > 5


def test_pillars_and_passers_hide_people() -> None:
    options = SceneOptions(pillars=2, passers=2, seconds=15)
    lowest = [
        min(one.visible for frame in _frames(ONE, options, seed) for one in frame.people)
        for seed in range(4)
    ]
    inside = [
        one.visible
        for seed in range(4)
        for frame in _frames(ONE, options, seed)
        for one in frame.people
        if one.box[0] > 0 and one.box[0] + one.box[2] < options.width
    ]
    assert min(lowest) < 0.7
    assert min(inside) < 0.7


def test_people_move_smoothly_within_the_sizes_that_are_asked() -> None:
    for seed in range(4):
        before: tuple[float, ...] | None = None
        for frame in _frames(ONE, seed=seed):
            if not frame.people:
                before = None
                continue
            x, _, w, h = frame.people[0].box
            assert 30 * 0.95 <= h <= 120 * 1.05
            if before is not None:
                assert abs(x + w / 2 - before[0]) < 0.7 * h + 6
                assert h == pytest.approx(before[1], rel=0.25)
            before = (x + w / 2, h)


def test_a_person_shows_several_pictures_in_turn() -> None:
    actor = Actor("a", (_head(RED), _head(BLUE)))
    pictures = [one.picture for frame in _frames([actor]) for one in frame.people]
    assert set(pictures) == {0, 1}
    runs = 1 + sum(a != b for a, b in itertools.pairwise(pictures))
    assert 2 <= runs <= len(pictures) / 4


def test_night_has_no_colour_and_low_light_is_dark() -> None:
    day, low, night = (
        np.stack([f.pixels for f in _frames(ONE, SceneOptions(light=light, seconds=3))])
        for light in (Light.DAY, Light.LOW, Light.NIGHT)
    )
    assert low.mean() < 0.5 * day.mean()
    colour = [np.abs(np.diff(one.mean(axis=(0, 1, 2)))).max() for one in (day, night)]
    smooth = [cv2.GaussianBlur(one[0], (0, 0), 4).astype(int) for one in (day, night)]
    spread = [(one.max(axis=2) - one.min(axis=2)).mean() for one in smooth]
    assert spread[1] < 0.1 * spread[0], colour


def test_the_enrolled_picture_is_never_shown(tmp_path: Path) -> None:
    for person, count in (("zoe", 1), ("ann", 3), ("bob", 2)):
        (tmp_path / person).mkdir()
        for number in range(count):
            (tmp_path / person / f"{number}.jpg").touch()
    people = people_of(tmp_path)
    assert [(one.key, len(one.pictures)) for one in people] == [
        ("p0000", 3),
        ("p0001", 2),
        ("p0002", 1),
    ]
    enrolled, strangers = divided(people)
    assert [one.key for one in enrolled] == ["p0000"]
    assert {one.key for one in strangers} <= {"p0001", "p0002"}
    for person_ in enrolled:
        assert person_.enrolled not in person_.shown


def test_a_folder_without_people_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no folders"):
        people_of(tmp_path)


@pytest.fixture(scope="module")
def detector(mien_home: Path) -> FaceDetector:
    return load_detector(Zoo(mien_home), Settings(home=mien_home))


def test_faces_of_photographs_are_found_where_the_truth_says(
    mien_home: Path, detector: FaceDetector
) -> None:
    enrolled, strangers = divided(demo_people(mien_home))
    options = SceneOptions(seconds=10)
    (clip,) = make_clips(enrolled, strangers, 1, detector, options, seed=3)
    assert clip.enrolled == {enrolled[0].key}
    assert len(in_view(clip, 12)) >= 1
    found = wanted = 0
    for frame in clip.frames:
        pixels = cv2.imdecode(np.frombuffer(frame.jpeg, np.uint8), cv2.IMREAD_COLOR)
        assert pixels is not None
        boxes = [one.box for one in detector.detect(np.ascontiguousarray(pixels[:, :, ::-1]))]
        for one in frame.people:
            if one.visible > 0.95 and one.eyes > 14:
                wanted += 1
                centre = (one.box[0] + one.box[2] / 2, one.box[1] + one.box[3] / 2)
                found += any(
                    abs(x + w / 2 - centre[0]) < 0.25 * w and abs(y + h / 2 - centre[1]) < 0.25 * h
                    for x, y, w, h in boxes
                )
    assert wanted > 10
    assert found >= 0.9 * wanted
