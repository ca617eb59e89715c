"""Mapped vectors that are weighed by what tells a person."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from models.r3an import linear
from models.r3an.arrays import unit
from models.r3an.candidates import Candidate
from models.r3an.fit import best_of, enter, forms, weigh
from models.r3an.mappers import AffineMap, mapped
from models.r3an.measure import Choice, choice_figures
from models.r3an.vectors import NOBODY, Pairs
from models.r3an.weighing import WeighedMap, learn_weights

SURE, DIMENSION = 16, 48


def uneven() -> Pairs:
    """Faces whose last numbers the map can tell well in each picture, and not of each person."""
    rng = np.random.default_rng(7)
    people, shots = 500, 4
    person = np.repeat(np.arange(people), shots)
    own = np.repeat(rng.normal(size=(people, DIMENSION)), shots, axis=0)
    passing = 2.0 * rng.normal(size=own.shape)
    passing[:, :SURE] *= 0.1
    target = unit(own + passing)
    source = unit(target + 0.02 * rng.normal(size=target.shape))
    rows = np.arange(len(person))
    return Pairs(
        source[:, None],
        target[:, None],
        person.astype(np.int64),
        np.zeros(len(rows), np.float32),
        rows[:1500],
        rows[1500:1740],
        rows[1740:1980],
        rows[1980:],
    )


@pytest.fixture(scope="module")
def faces() -> Pairs:
    return uneven()


@pytest.fixture(scope="module")
def ridge(faces: Pairs) -> Candidate:
    source, target, _ = faces.learned()
    return Candidate("ridge", AffineMap(linear.ridge(source, target)), 0.0, 88)


def test_what_differs_between_two_pictures_of_a_person_counts_less(
    faces: Pairs, ridge: Candidate
) -> None:
    assert ridge.network is not None
    weights = learn_weights(ridge.network, faces)
    assert weights is not None
    kept = np.diag(weights)
    assert kept[:SURE].min() > 1.5 * kept[SURE:].max()
    np.testing.assert_allclose(weights, weights.T, atol=1e-6)
    assert np.trace(weights) == pytest.approx(DIMENSION, rel=1e-4)
    assert np.linalg.eigvalsh(weights).min() > 0


def test_people_are_found_by_it_who_were_not_before(faces: Pairs, ridge: Candidate) -> None:
    weighed = weigh(faces, ridge)
    assert weighed is not None
    assert (weighed.kind, weighed.of, weighed.parameters) == ("weighed", "ridge", 88 + 48 * 48)
    before, after = (_choice(faces, one) for one in (ridge, weighed))
    assert after.rank1 > before.rank1 + 0.05
    assert after.strict > before.strict


def test_held_out_faces_have_no_say(faces: Pairs, ridge: Candidate) -> None:
    assert ridge.network is not None
    target = faces.target.copy()
    target[faces.test] = target[faces.test][::-1]
    target[faces.calibration] = -target[faces.calibration]
    own, others = (
        learn_weights(ridge.network, one) for one in (faces, replace(faces, target=target))
    )
    assert own is not None
    assert others is not None
    np.testing.assert_array_equal(own, others)


@pytest.mark.parametrize("known", [0, 400])
def test_without_people_of_several_faces_a_map_stays_as_it_is(
    faces: Pairs, ridge: Candidate, known: int
) -> None:
    person = faces.person.copy()
    person[faces.train[known:]] = NOBODY
    assert weigh(replace(faces, person=person), ridge) is None


def test_the_best_form_takes_the_place_of_the_map(faces: Pairs, ridge: Candidate) -> None:
    made = forms(faces, ridge)
    assert [one.kind for one in made] == ["weighed", "centred", "weighed-centred"]
    assert {one.of for one in made} == {"ridge"}
    entries = [enter(faces, one, 20) for one in (ridge, *made)]
    worth = [entry.choice.worth for entry in entries if entry.choice is not None]
    assert best_of(entries) is entries[int(np.argmax(worth))]
    assert best_of(entries).candidate.kind.startswith("weighed")


def test_a_weighed_vector_keeps_the_length_that_tells_of_trust(faces: Pairs) -> None:
    rng = np.random.default_rng(1)
    weighed = WeighedMap(nn.Linear(DIMENSION, 5), rng.normal(size=(5, 5)).astype(np.float32))
    x = torch.from_numpy(faces.source[faces.test, 0])
    torch.testing.assert_close(
        torch.linalg.vector_norm(weighed(x), dim=1),
        torch.linalg.vector_norm(weighed.network(x), dim=1),
    )


def _choice(faces: Pairs, one: Candidate) -> Choice:
    network = one.network
    assert network is not None
    return choice_figures(faces, lambda vectors: mapped(network, vectors))
