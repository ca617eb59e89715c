import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from models.r3an import linear
from models.r3an.arrays import unit
from models.r3an.candidates import Candidate
from models.r3an.confidence import ServedMap, calibration_of, learn_head
from models.r3an.fit import Entry, Fit, best_of, enter, facts_of, finish, write_facts
from models.r3an.learning import LearningOptions, learn, mixed, pulled
from models.r3an.mappers import AffineMap, ResidualMap, Together, mapped
from models.r3an.report import Origin, card_of, readme, write_figures
from models.r3an.vectors import Pairs
from models.zoo import EmbedderCard
from models.zoo.card import EmbeddingOutput, parse_card
from models.zoo.card_base import Weights

CPU = torch.device("cpu")
TINY = LearningOptions(epochs=10, batch=64, dropout=0.0, lr=3e-3)


def embedder(name: str, dimension: int) -> EmbedderCard:
    weights = Weights(sha256=name[0] * 64, size_bytes=1)
    return EmbedderCard(
        name=name, version="1", weights=weights, output=EmbeddingOutput(dimension=dimension)
    )


def origin() -> Origin:
    return Origin(embedder("aaa", 10), embedder("bbb", 8), "toy faces", "mien mapping fit", "a box")


def ridge_of(pairs: Pairs) -> Candidate:
    source, target, _ = pairs.learned()
    return Candidate("ridge", AffineMap(linear.ridge(source, target)), 0.0, 88)


@pytest.fixture(scope="module")
def done(pairs: Pairs, tmp_path_factory: pytest.TempPathFactory) -> tuple[Fit, Path]:
    out = tmp_path_factory.mktemp("fit")
    source, target, _ = pairs.learned()
    turned = Candidate("procrustes", AffineMap(linear.procrustes(source, target)), 0.0, 88)
    lost = Candidate("r3an", None, 0.0, 100)
    entries = [enter(pairs, candidate, 20) for candidate in (turned, ridge_of(pairs), lost)]
    return finish(pairs, entries, out, 1e-2, 20), out


def test_the_map_that_finds_most_people_is_released_and_said_to_be_linear(
    done: tuple[Fit, Path], pairs: Pairs
) -> None:
    fit, _ = done
    assert fit.best.candidate.kind == "ridge"
    text = readme(fit, pairs, origin())
    assert "Released: **ridge regression with an intercept**" in text
    assert "a linear map is enough" in text
    assert "| R3AN | NAN |" in text
    assert "Not tried" not in text
    unfinished = readme(fit, pairs, origin(), "R3AN beside a linear path")
    assert "Not tried when this was written: R3AN beside a linear path." in unfinished
    assert "| raw S\\|T |" in text
    assert fit.verdict.answer in text


def test_of_equally_good_maps_the_smaller_is_released(pairs: Pairs) -> None:
    one = enter(pairs, ridge_of(pairs), 20)
    large = Entry(replace(one.candidate, kind="mlp", parameters=1000), one.choice, one.judged)
    assert best_of([large, one]) is one
    with pytest.raises(ValueError, match="finite"):
        best_of([Entry(replace(one.candidate, network=None), None, None)])


def test_the_file_gives_what_the_network_gives(done: tuple[Fit, Path], pairs: Pairs) -> None:
    fit, out = done
    x = pairs.source[pairs.test, 0]
    assert fit.exported.path == out / "candidates" / "ridge.onnx"
    session = onnxruntime.InferenceSession(str(fit.exported.path))
    made, trust = session.run(["mapped", "confidence"], {"vector": x})
    np.testing.assert_allclose(np.linalg.norm(made, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(made, mapped(fit.best.candidate.network, x), atol=1e-5)  # type: ignore[arg-type]
    assert trust.shape == (len(x), 1)
    ours = fit.served(torch.from_numpy(x))[1].numpy()
    np.testing.assert_allclose(trust, ours, atol=1e-5)
    assert sorted(path.stem for path in (out / "candidates").glob("*")) == ["procrustes", "ridge"]
    one = session.run(["mapped"], {"vector": x[:1]})[0]
    np.testing.assert_allclose(one, made[:1], atol=1e-5)


def test_the_card_says_whose_vectors_and_when_two_match(done: tuple[Fit, Path]) -> None:
    fit, _ = done
    card = card_of(fit, origin())
    assert parse_card(card.model_dump_json()) == card
    assert (card.source.reference, card.target.reference) == ("aaa@1", "bbb@1")
    assert (card.source.dimension, card.target.dimension) == (10, 8)
    kinds = {(t.comparison, t.fmr) for t in card.thresholds}
    assert kinds == {(c, f) for c in ("map|T", "T|map", "map|map") for f in (1e-2, 1e-3, 1e-4)}
    strict, lax = card.threshold("map|T", 1e-4), card.threshold("map|T", 1e-2)
    assert strict is not None
    assert lax is not None
    assert strict.similarity > lax.similarity
    assert strict.people == 40
    assert card.confidence is not None
    assert any(metric.name.startswith("rank1 map|T") for metric in card.metrics)


def test_a_threshold_holds_its_rate(done: tuple[Fit, Path], pairs: Pairs) -> None:
    fit, _ = done
    rows = np.concatenate([pairs.calibration, pairs.test])
    made = mapped(fit.served.network, pairs.source[rows, 0])
    scores = made @ pairs.target[rows, 0].T
    others = pairs.person[rows][:, None] < pairs.person[rows][None]
    threshold = fit.thresholds["map|T"][0].similarity
    assert (scores[others] >= threshold).mean() == pytest.approx(1e-2, rel=0.05)


def test_the_numbers_and_figures_of_a_fit_are_written(
    done: tuple[Fit, Path], pairs: Pairs, tmp_path: Path
) -> None:
    fit, _ = done
    write_facts(tmp_path / "fit.json", facts_of(fit, {"source": "aaa@1"}))
    facts = json.loads((tmp_path / "fit.json").read_text())
    assert [(one["name"], one["released"]) for one in facts["maps"]] == [
        ("procrustes", False), ("ridge", True), ("r3an", False),
    ]  # fmt: skip
    assert facts["maps"][2]["conditions"] is None
    write_figures(tmp_path, fit, pairs)
    for name in ("ranks", "vectors", "scores", "confidence"):
        assert (tmp_path / f"{name}.png").stat().st_size > 5000


def test_a_network_learns_what_a_line_cannot_and_from_training_people_alone() -> None:
    rng = np.random.default_rng(2)
    x = unit(rng.normal(size=(2500, 1, 4)))
    bent = np.stack([x[..., 0] * x[..., 1], x[..., 2] ** 2, 0.2 * x[..., 3]], axis=2)
    y = unit(bent)
    train, test = np.arange(2000), np.arange(2000, 2500)
    none = np.arange(0)
    y_known = np.where(np.arange(2500)[:, None, None] < 2000, y, np.nan)
    pairs = Pairs(x, y_known, np.arange(2500), np.zeros(2500, np.float32), train, none, test, none)
    straight = linear.ridge(x[train, 0], y[train, 0])
    torch.manual_seed(0)
    network = ResidualMap(AffineMap(straight, learned=True), (4, 3), 64, 2, 0.0)

    def cosine(made: np.ndarray) -> float:
        return float((made * y[test, 0]).sum(axis=1).mean())

    before = cosine(mapped(network, x[test, 0]))
    assert before == pytest.approx(cosine(unit(straight(x[test, 0]))), abs=1e-4)
    learned, _ = learn(network, pairs, TINY, CPU)
    assert cosine(mapped(learned, x[test, 0])) > before + 0.1


def test_maps_taken_together_are_longest_where_they_agree(pairs: Pairs) -> None:
    source, target, who = pairs.learned()
    first = AffineMap(linear.ridge(source, target))
    second = AffineMap(linear.ridge(source, pulled(target, who, 1.0), penalty=0.5))
    x = torch.from_numpy(pairs.source[pairs.test, 0])
    both = Together([first, second])(x)
    agree = torch.nn.functional.cosine_similarity(first(x), second(x))
    lengths = both.norm(dim=1)
    assert float(lengths.max()) <= 1 + 1e-5
    assert torch.argsort(lengths).tolist() == torch.argsort(agree).tolist()


def test_targets_are_pulled_to_their_person_and_to_nobody_elses(pairs: Pairs) -> None:
    _, target, who = pairs.learned()
    made = pulled(target, who, 1.0)
    first = made[who == 3]
    np.testing.assert_allclose(first, np.broadcast_to(first[0], first.shape), atol=1e-6)
    assert float(made[who == 4][0] @ first[0]) < 0.99
    assert pulled(target, who, 0.0) is target


def test_source_and_target_are_mixed_alike() -> None:
    torch.manual_seed(0)
    x = torch.nn.functional.normalize(torch.randn(64, 5))
    a, b = mixed(x, x, 0.5)
    torch.testing.assert_close(a, b)
    changed = (a - x).norm(dim=1) > 1e-6
    assert 0.25 < float(changed.float().mean()) < 0.75
    torch.testing.assert_close(a.norm(dim=1), torch.ones(64))


def test_confidence_follows_a_noise_that_is_known() -> None:
    rng = np.random.default_rng(0)
    truth = unit(rng.normal(size=(3000, 6)))
    noise = rng.uniform(0, 1.5, size=(3000, 1))
    target = unit(truth + noise * rng.normal(size=truth.shape) / np.sqrt(6))
    # The noise of a face is written in its vector, as blur is in a real one.
    source = unit(np.concatenate([truth, noise], axis=1))
    fitted = linear.ridge(source[:2000], target[:2000])
    served = ServedMap(AffineMap(fitted), (7, 6))
    learn_head(served, source[:2000], target[:2000], source[2000:2500], target[2000:2500])
    found = calibration_of(served, source[2500:], target[2500:])
    measured = [real for _, real, _ in found.bins]
    assert found.rank_correlation > 0.5
    assert measured[0] < measured[4] < measured[9]
    assert found.gap < 0.06
    assert found.faces == 500


def test_a_confidence_that_is_too_sure_is_brought_down() -> None:
    rng = np.random.default_rng(1)
    source = unit(rng.normal(size=(2000, 7)))
    target = unit(source[:, :6])
    worse = unit(target + 0.4 * rng.normal(size=target.shape))
    served = ServedMap(AffineMap(linear.ridge(source[:1000], target[:1000])), (7, 6))
    learn_head(served, source[:1000], target[:1000], source[1000:1500], worse[1000:1500])
    found = calibration_of(served, source[1500:], worse[1500:])
    assert found.gap < 0.05
