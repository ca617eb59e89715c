from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models.r3an.vectors import NOBODY, Pairs, SplitOptions, pair_up, sides_of
from models.training.people import People, load_people

OPTIONS = SplitOptions(holdout_nameless=0.4, merge_above=1.0, label_floor=-1.0)


@pytest.fixture(scope="module")
def people(crops_folder: Path, cache: Path, zoo_poseface: Path) -> People:
    """Noise looks alike to a network of faces, so everybody gets a direction of their own."""
    found = load_people(OPTIONS, crops_folder, cache, zoo_poseface)
    _, place = np.unique(
        [path.rsplit("/", 2)[0] for path in found.faces.paths], return_inverse=True
    )
    return replace(found, clean=torch.eye(place.max() + 1)[place])


def vectors(people: People, dimension: int) -> np.ndarray:
    rng = np.random.default_rng(dimension)
    return rng.normal(size=(len(people.faces), 2, dimension)).astype(np.float32)


def paired(people: People, source: np.ndarray, target: np.ndarray) -> Pairs:
    return pair_up(people, sides_of(people, OPTIONS), source, target)


def test_nobody_is_in_two_parts_and_the_held_out_are_those_of_all_trainings(
    people: People,
) -> None:
    pairs = paired(people, vectors(people, 6), vectors(people, 5))
    names = np.array(people.faces.people)
    parts = [set(names[rows]) - {""} for rows in (pairs.train, pairs.calibration, pairs.test)]
    assert all(parts)
    assert not parts[0] & parts[1]
    assert not parts[0] & parts[2]
    assert not parts[1] & parts[2]
    assert parts[1] | parts[2] == set(names[people.split.validation])
    assert 0 < len(pairs.distractors) < 20
    assert set(names[pairs.distractors]) == {""}
    assert not set(pairs.distractors.tolist()) & set(pairs.train.tolist())


def test_a_doubtful_label_neither_judges_nor_says_who_it_is(people: People) -> None:
    row = int(people.split.validation[0])
    doubtful = np.zeros(len(people.faces), dtype=np.bool_)
    doubtful[row] = True
    pairs = paired(replace(people, doubtful=doubtful), vectors(people, 6), vectors(people, 5))
    assert pairs.person[row] == NOBODY
    assert row not in [*pairs.calibration, *pairs.test, *pairs.train]


def test_a_faces_views_stay_together_and_a_nameless_face_is_somebody(people: People) -> None:
    source = vectors(people, 6)
    pairs = paired(people, source, vectors(people, 5))
    given, wanted, who = pairs.learned()
    assert given.shape == (2 * len(pairs.train), 6)
    assert wanted.shape == (2 * len(pairs.train), 5)
    np.testing.assert_array_equal(given[:2], source[pairs.train[0]])
    np.testing.assert_array_equal(who[::2], who[1::2])
    named = pairs.person[pairs.train] != NOBODY
    assert len(set(who[::2][~named].tolist())) == int((~named).sum())
    assert not set(who[::2][~named].tolist()) & set(pairs.person.tolist())


def test_a_blend_is_learned_from_and_is_nobody_else(people: People) -> None:
    sides = sides_of(people, OPTIONS)
    rng = np.random.default_rng(1)
    blends = tuple(
        rng.normal(size=(len(sides.train), 3, dimension)).astype(np.float32) for dimension in (6, 5)
    )
    source, target = vectors(people, 6), vectors(people, 5)
    plain = pair_up(people, sides, source, target)
    pairs = pair_up(people, sides, source, target, (blends[0], blends[1]))
    given, wanted, who = pairs.learned()
    known = len(plain.learned()[0])
    np.testing.assert_array_equal(given[:known], plain.learned()[0])
    np.testing.assert_array_equal(given[known:], blends[0].reshape(-1, 6))
    np.testing.assert_array_equal(wanted[known:], blends[1].reshape(-1, 5))
    strangers = set(who[known:].tolist())
    assert len(strangers) == 3 * len(sides.train)
    assert not strangers & set(who[:known].tolist())
    assert pairs.facts()["blends"] == 3


def test_a_nameless_face_of_a_held_out_person_is_neither_learned_from_nor_a_distractor(
    people: People,
) -> None:
    assert people.clean is not None
    names = np.array(people.faces.people)
    nameless = np.flatnonzero(names == "")
    clean = people.clean.clone()
    clean[nameless[::2]] = people.clean[int(people.split.validation[0])]
    before = paired(people, vectors(people, 6), vectors(people, 5))
    after = paired(replace(people, clean=clean), before.source, before.target)
    gone = set(nameless[::2].tolist())
    used = {*before.train.tolist(), *before.distractors.tolist()}
    assert gone <= used
    assert {*after.train.tolist(), *after.distractors.tolist()} == used - gone
    assert {*before.distractors.tolist()} - gone == set(after.distractors.tolist())
