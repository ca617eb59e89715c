import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.evaluation.folds import FoldSplit, fold_accuracy

FAILED = -math.inf
Pairs = list[tuple[float, bool, int]]


def naive_fold(pairs: Pairs, held_out: int) -> tuple[float, float]:
    """Accuracy and threshold of one fold by trying each threshold on each pair."""

    def correct(score: float, same: bool, threshold: float) -> bool:
        return (score != FAILED and score >= threshold) == same

    train = [(s, y) for s, y, fold in pairs if fold != held_out]
    test = [(s, y) for s, y, fold in pairs if fold == held_out]
    above = math.nextafter(max(s for s, _ in train), math.inf)
    tried = sorted({above, *(s for s, _ in train if s != FAILED)}, reverse=True)
    best = max(tried, key=lambda t: sum(correct(s, y, t) for s, y in train))
    return sum(correct(s, y, best) for s, y in test) / len(test), best


pair_lists = st.lists(
    st.tuples(
        st.one_of(st.sampled_from([FAILED, 0.0, 0.5, 1.0]), st.floats(-1, 1)),
        st.booleans(),
        st.integers(0, 3),
    ),
    min_size=4,
    max_size=40,
)


def columns(pairs: Pairs) -> tuple[list[float], list[bool], list[int]]:
    return [p[0] for p in pairs], [p[1] for p in pairs], [p[2] for p in pairs]


def usable(pairs: Pairs) -> bool:
    folds = {fold for _, _, fold in pairs}
    kinds_left = ({same for _, same, fold in pairs if fold != out} for out in folds)
    return len(folds) > 1 and all(len(kinds) == 2 for kinds in kinds_left)


@settings(deadline=None, max_examples=300)
@given(pair_lists.filter(usable))
def test_agrees_with_trying_every_threshold(pairs: Pairs) -> None:
    result = fold_accuracy(*columns(pairs))
    for position, label in enumerate(result.labels):
        accuracy, threshold = naive_fold(pairs, int(label))
        assert result.accuracies[position] == pytest.approx(accuracy)
        assert result.thresholds[position] == threshold


@settings(deadline=None, max_examples=100)
@given(pair_lists.filter(usable), st.integers(0, 2**32))
def test_weights_are_repetitions(pairs: Pairs, seed: int) -> None:
    weights = np.random.default_rng(seed).integers(0, 4, len(pairs))
    repeated = [pair for pair, times in zip(pairs, weights, strict=True) for _ in range(times)]
    if len({p[2] for p in repeated}) < len({p[2] for p in pairs}) or not usable(repeated):
        return
    accuracies, thresholds = FoldSplit(*columns(pairs)).accuracies(weights.astype(float))
    expected = fold_accuracy(*columns(repeated))
    np.testing.assert_allclose(accuracies, expected.accuracies)
    np.testing.assert_array_equal(thresholds, expected.thresholds)


def test_mean_and_standard_error() -> None:
    scores = [0.9, 0.1, 0.8, 0.85]
    result = fold_accuracy(scores, [True, False, True, False], ["a", "a", "b", "b"])
    assert result.labels == ("a", "b")
    # On b, accepting all and rejecting all are both right once: the higher threshold is taken.
    assert result.thresholds.tolist() == [math.nextafter(0.85, 1), 0.9]
    assert result.accuracies.tolist() == [1.0, 0.5]
    assert result.mean == 0.75
    sample_deviation = math.sqrt(2 * 0.25**2 / 1)
    assert result.standard_error == pytest.approx(sample_deviation / math.sqrt(2))


def test_the_judged_fold_has_no_part_in_its_threshold() -> None:
    rng = np.random.default_rng(1)
    same = np.arange(200) % 2 == 0
    folds = np.arange(200) // 20
    scores: NDArray[np.float64] = rng.normal(size=200) + same
    before = fold_accuracy(scores, same, folds).thresholds
    scores[folds == 3] = rng.normal(size=20) * 9
    assert fold_accuracy(scores, same, folds).thresholds[3] == before[3]


def test_failed_pairs_are_never_accepted() -> None:
    scores = [0.9, FAILED, FAILED, 0.1, 0.9, 0.1]
    same = [True, True, False, False, True, False]
    result = fold_accuracy(scores, same, [0, 0, 0, 0, 1, 1])
    assert result.accuracies.tolist() == [0.75, 1.0]


@pytest.mark.parametrize(
    ("same", "folds", "message"),
    [
        ([True, False, True, False], [1, 1, 1, 1], "two folds"),
        ([True, True, False, False], [0, 0, 1, 1], "one kind"),
        ([True, False, True], [0, 0, 1, 1], "shape"),
        ([True, False, True, False], [0, 1], "shape"),
    ],
)
def test_folds_that_cannot_be_judged_are_refused(
    same: list[bool], folds: list[int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        fold_accuracy([0.1, 0.2, 0.3, 0.4], same, folds)
