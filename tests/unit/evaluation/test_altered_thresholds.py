"""Thresholds for comparisons of which one picture is altered."""

from __future__ import annotations

import numpy as np
import pytest

from services.evaluation.alteration import Alteration, Light
from services.evaluation.calibration import fit
from services.evaluation.extract import Extraction

GREY = Alteration(light=Light.GREY)


def unit(vectors: np.ndarray) -> np.ndarray:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


def extraction(people: int, seed: int, *, alike: float) -> Extraction:
    """Two pictures of each person, each as it is and altered; altered ones drift to one point."""
    chance = np.random.default_rng(seed)
    plain = unit(chance.normal(size=(2 * people, 16)))
    altered = unit(plain + alike * np.ones(16))
    names = [f"{i // 2:03d}/{i % 2}.jpg" for i in range(2 * people)]
    vectors: dict[str, np.ndarray | None] = dict(zip(names, plain, strict=True))
    vectors |= {GREY.named(name): row for name, row in zip(names, altered, strict=True)}
    return Extraction(vectors, 1.0, len(vectors), 0, "cosine", "face@1")


def test_it_is_the_score_that_the_asked_share_of_mixed_impostors_reaches() -> None:
    one = extraction(60, 0, alike=0.5)
    (at_1e2, *_) = fit([one], GREY)
    names = [name for name in one.vectors if name != GREY.named(name) and "\0" not in name]
    scores = [
        float(np.dot(one.vectors[GREY.named(a)], one.vectors[b]))  # type: ignore[arg-type]
        for place, a in enumerate(names)
        for b in names[place + 1 :]
        if a[:3] != b[:3]
    ]
    assert at_1e2.impostor_comparisons == len(scores)
    false = np.mean(np.array(scores) >= at_1e2.similarity)
    assert 0.009 < false <= 0.01


def test_plain_comparisons_are_fitted_on_plain_pictures_alone() -> None:
    one = extraction(60, 1, alike=3.0)
    bare = Extraction(
        {name: row for name, row in one.vectors.items() if "\0" not in name},
        1.0, 120, 0, "cosine", "face@1",
    )  # fmt: skip
    assert fit([one])[0].similarity == pytest.approx(fit([bare])[0].similarity)
    assert fit([one])[0].similarity != pytest.approx(fit([one], GREY)[0].similarity, abs=0.01)


def test_a_picture_that_gave_no_face_either_way_is_left_out() -> None:
    one = extraction(20, 2, alike=0.5)
    one.vectors["003/0.jpg"] = None
    one.vectors[GREY.named("004/1.jpg")] = None
    assert fit([one], GREY)[0].images == 38
    assert fit([one])[0].images == 39
