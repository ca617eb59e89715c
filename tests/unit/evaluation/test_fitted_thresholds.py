import math

import numpy as np
import pytest
from numpy.typing import NDArray

from models.evaluation import thresholds
from models.evaluation.bootstrap import IndexArray
from models.evaluation.rates import false_match_rate, threshold_at_fmr
from models.evaluation.thresholds import Similarity, fit_thresholds

Floats = NDArray[np.float64]
TARGETS = (0.1, 1e-2, 1e-3)


def embeddings(seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    rng = np.random.default_rng(seed)
    people = np.append(np.arange(40), rng.integers(0, 40, 190))
    vectors = rng.normal(size=(40, 16))[people] + rng.normal(size=(230, 16))
    return vectors.astype(np.float32), people


def full_matrix(vectors: NDArray[np.float32], similarity: Similarity) -> Floats:
    exact = vectors.astype(np.float64)
    if similarity == "cosine":
        exact /= np.linalg.norm(exact, axis=1, keepdims=True)
        cosines: Floats = exact @ exact.T
        return cosines
    return -np.asarray(np.linalg.norm(exact[:, None] - exact, axis=2))


def cross_person(scores: Floats, people: NDArray[np.intp]) -> Floats:
    picked: Floats = scores[np.triu(people[:, None] != people, k=1)]
    return picked


@pytest.fixture(params=[32, 4096], ids=["many tiles", "one tile"])
def _tile(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thresholds, "TILE", request.param)
    monkeypatch.setattr(thresholds, "SHORTEST_TAIL", 10)


@pytest.mark.usefixtures("_tile")
@pytest.mark.parametrize("similarity", ["cosine", "negative_euclidean"])
def test_thresholds_are_those_of_the_full_matrix(similarity: Similarity) -> None:
    vectors, people = embeddings()
    impostor = cross_person(full_matrix(vectors, similarity), people)
    fitted = fit_thresholds(vectors, people, TARGETS, similarity=similarity, resamples=50)
    assert [point.fmr for point in fitted] == list(TARGETS)
    for point in fitted:
        expected = threshold_at_fmr(impostor, point.fmr)
        assert point.similarity == pytest.approx(expected, rel=1e-12)
        assert point.low <= point.similarity <= point.high
        assert point.impostor_comparisons == impostor.size
        assert (point.people, point.images) == (40, 230)
        # A margin of one rounding error around the threshold leaves the rate unchanged.
        assert false_match_rate(impostor, point.similarity + 1e-12) <= point.fmr
    assert fitted[0].similarity < fitted[1].similarity < fitted[2].similarity


@pytest.mark.usefixtures("_tile")
def test_score_function_with_ties_and_failures_is_exact() -> None:
    rng = np.random.default_rng(1)
    people = rng.integers(0, 12, 100)
    table = rng.integers(0, 30, size=(100, 100)) / 8
    table = np.maximum(table, table.T)
    table[np.maximum.outer(np.arange(100), np.arange(100)) % 7 == 0] = -math.inf

    def score(rows: IndexArray, columns: IndexArray) -> Floats:
        assert rows.size * columns.size <= thresholds.TILE**2
        return table[np.ix_(rows, columns)]

    impostor = cross_person(table, people)
    targets = (0.0, 0.003, 0.04, 0.3, 0.95)
    for point in fit_thresholds(score, people, targets, resamples=20):
        assert point.similarity == threshold_at_fmr(impostor, point.fmr)


def test_unknown_people_take_no_part() -> None:
    vectors, people = embeddings()
    names: list[str | None] = [f"person {p}" for p in people]
    known = people % 5 != 0
    for image in np.flatnonzero(~known):
        names[image] = None if image % 2 else ""
    with_unknown = fit_thresholds(vectors, names, TARGETS, resamples=30)
    assert with_unknown == fit_thresholds(vectors[known], people[known], TARGETS, resamples=30)
    assert with_unknown[0].images == known.sum()


def test_failed_images_count_and_never_match() -> None:
    vectors, people = embeddings()
    acquired = np.arange(230) % 6 != 0
    scores = full_matrix(vectors, "cosine")
    scores[~acquired] = -math.inf
    scores[:, ~acquired] = -math.inf
    vectors[~acquired] = np.nan
    impostor = cross_person(scores, people)
    for point in fit_thresholds(vectors, people, TARGETS, acquired=acquired, resamples=20):
        assert point.impostor_comparisons == impostor.size
        assert point.similarity == pytest.approx(threshold_at_fmr(impostor, point.fmr), rel=1e-12)


def test_a_tail_that_resamples_exhaust_is_lengthened(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, people = embeddings()
    expected = fit_thresholds(vectors, people, TARGETS, resamples=100)
    lengths = []
    collect = thresholds.impostor_tail

    def spy(*arguments: object) -> object:
        lengths.append(arguments[-1])
        return collect(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(thresholds, "impostor_tail", spy)
    monkeypatch.setattr(thresholds, "SHORTEST_TAIL", 1)
    monkeypatch.setattr(thresholds, "TAIL_MARGIN", 1)
    assert fit_thresholds(vectors, people, TARGETS, resamples=100) == expected
    assert len(lengths) > 1


def test_interval_repeats_with_its_seed() -> None:
    vectors, people = embeddings()
    first = fit_thresholds(vectors, people, [0.01], resamples=40, seed=1)
    assert first == fit_thresholds(vectors, people, [0.01], resamples=40, seed=1)
    assert first != fit_thresholds(vectors, people, [0.01], resamples=40, seed=2)


def test_what_cannot_be_fitted_is_refused() -> None:
    vectors, people = embeddings()
    with pytest.raises(ValueError, match="two known people"):
        fit_thresholds(vectors, np.zeros(230, dtype=int))
    with pytest.raises(ValueError, match="people"):
        fit_thresholds(vectors, people[:5])
    with pytest.raises(ValueError, match="no target"):
        fit_thresholds(vectors, people, [])
    with pytest.raises(ValueError, match="target"):
        fit_thresholds(vectors, people, [2.0])
    with pytest.raises(ValueError, match="shape"):
        fit_thresholds(vectors[:, 0], people)
    with pytest.raises(ValueError, match="acquired"):
        fit_thresholds(vectors, people, acquired=[True])
    with pytest.raises(ValueError, match="length zero"):
        fit_thresholds(vectors * 0, people)
    with pytest.raises(ValueError, match="NaN"):
        fit_thresholds(vectors * np.nan, people)
    with pytest.raises(ValueError, match="NaN"):
        fit_thresholds(lambda rows, columns: np.full((rows.size, columns.size), np.nan), people)
    with pytest.raises(ValueError, match="returned shape"):
        fit_thresholds(lambda rows, _: np.zeros(rows.size), people)


def test_pictures_of_different_sets_are_not_compared() -> None:
    rng = np.random.default_rng(5)
    vectors = rng.standard_normal((60, 16))
    people = [f"p{number % 10}" for number in range(60)]
    sets = [number // 30 for number in range(60)]
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    scores = unit @ unit.T
    impostors = np.array(
        [
            scores[i, j]
            for i in range(60)
            for j in range(i)
            if people[i] != people[j] and sets[i] == sets[j]
        ]
    )
    (fitted,) = fit_thresholds(vectors, people, (0.05,), sets=sets, resamples=50)
    assert fitted.impostor_comparisons == impostors.size
    assert fitted.people == 20
    assert fitted.similarity == pytest.approx(threshold_at_fmr(impostors, 0.05))
