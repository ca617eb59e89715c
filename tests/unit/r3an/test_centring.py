"""Mapped vectors that are moved away from their nearest strangers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from models.r3an import linear
from models.r3an.arrays import unit
from models.r3an.candidates import Candidate
from models.r3an.centring import CentredMap, learn_crowd, nearest_strangers
from models.r3an.fit import best_of, centre, enter, finish
from models.r3an.mappers import AffineMap, mapped
from models.r3an.measure import Choice, choice_figures
from models.r3an.report import card_of, readme
from models.r3an.vectors import NOBODY, Pairs
from tests.unit.r3an.test_fit import origin


def crowded() -> Pairs:
    """Faces of twelve kinds: of some the people are much alike, and the map cannot tell who it is.

    The source model sees the kind well, and the person only in a clear picture.
    """
    rng = np.random.default_rng(4)
    kinds = rng.normal(size=(12, 48)) * rng.uniform(0.0, 2.0, (12, 1))
    people, shots = 500, 4
    person = np.repeat(np.arange(people), shots)
    kind = np.repeat(kinds[rng.integers(0, 12, people)], shots, axis=0)
    own = np.repeat(rng.normal(size=(people, 48)), shots, axis=0)
    clear = rng.uniform(0.2, 1.0, (len(person), 1))
    target = unit(kind + own + 0.3 * rng.normal(size=own.shape))
    seen = clear * own + 0.3 * rng.normal(size=own.shape)
    source = unit(np.concatenate([kind, seen, clear], axis=1))
    rows = np.arange(len(person))
    train, held = rows[:1500], rows[1500:]
    nobody = np.where((rows < 1500) & (rows % 9 == 0), NOBODY, person)
    return Pairs(
        source[:, None],
        target[:, None],
        nobody.astype(np.int64),
        np.zeros(len(rows), np.float32),
        train,
        held[:240],
        held[240:480],
        held[480:],
    )


@pytest.fixture(scope="module")
def faces() -> Pairs:
    return crowded()


@pytest.fixture(scope="module")
def ridge(faces: Pairs) -> Candidate:
    source, target, _ = faces.learned()
    return Candidate("ridge", AffineMap(linear.ridge(source, target)), 0.0, 88)


def test_only_strangers_count_as_near() -> None:
    cohort = unit(np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]]))
    (found,) = nearest_strangers(
        unit(np.array([[1.0, 0.05]])), np.array([7]), cohort, np.array([7, 3, 4]), 1
    )
    np.testing.assert_allclose(found, cohort[1])


def test_what_centres_a_map_says_where_its_strangers_are(faces: Pairs, ridge: Candidate) -> None:
    network = _whole(ridge)
    crowd = learn_crowd(network, faces)
    assert crowd is not None
    made = mapped(network, faces.source[faces.test, 0])
    cohort = faces.target[faces.train, 0]
    real = nearest_strangers(made, np.full(len(made), -1), cohort, np.arange(len(cohort)), 50)
    with torch.no_grad():
        spread = made.shape[1] ** 0.5
        told = crowd(torch.from_numpy(made) * spread).numpy() / spread
    cosines = (unit(told) * unit(real)).sum(axis=1)
    assert cosines.mean() > 0.9
    again = learn_crowd(network, faces)
    assert again is not None
    for one, other in zip(crowd.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)


def test_the_strictest_thresholds_accept_more_people_after_it(
    faces: Pairs, ridge: Candidate
) -> None:
    centred = centre(faces, ridge)
    assert centred is not None
    before, after = (_choice(faces, one) for one in (ridge, centred))
    assert after.strict > before.strict + 0.05
    assert after.worth > before.worth
    assert "ridge" in centred.title
    assert "strangers" in centred.title


def test_it_is_released_in_place_of_the_map_that_it_centres_and_of_no_other(
    faces: Pairs, ridge: Candidate, tmp_path: Path
) -> None:
    source, target, _ = faces.learned()
    turned = Candidate("procrustes", AffineMap(linear.procrustes(source, target)), 0.0, 88)
    entries = [enter(faces, one, 20) for one in (turned, ridge)]
    best = best_of(entries)
    centred = centre(faces, best.candidate)
    assert centred is not None
    entries.append(enter(faces, centred, 20))
    assert best_of(entries).candidate is centred
    other = Candidate("centred", centred.network, 0.0, 88, "fc")
    assert best_of([*entries[:2], enter(faces, other, 20)]) is best
    fit = finish(faces, entries, tmp_path, 1e-2, 20)
    assert fit.exported.path == tmp_path / "candidates" / "centred.onnx"
    assert card_of(fit, origin()).method == centred.title
    assert "before it is centred; so, rank-1" in readme(fit, faces, origin())


def test_too_few_faces_leave_a_map_as_it_is(pairs: Pairs) -> None:
    source, target, _ = pairs.learned()
    few = Candidate("ridge", AffineMap(linear.ridge(source, target)), 0.0, 88)
    if len(pairs.train) >= 200:
        pytest.skip("the toy set has grown")
    assert centre(pairs, few) is None


def test_a_centred_vector_keeps_the_length_that_tells_of_trust(
    faces: Pairs, ridge: Candidate
) -> None:
    network = _whole(ridge)
    centred = CentredMap(network, nn.Identity(), 0.5)
    x = torch.from_numpy(faces.source[faces.test, 0])
    torch.testing.assert_close(centred(x), 0.5 * network(x))


def _choice(faces: Pairs, one: Candidate) -> Choice:
    network = _whole(one)
    return choice_figures(faces, lambda vectors: mapped(network, vectors))


def _whole(one: Candidate) -> nn.Module:
    assert one.network is not None
    return one.network
