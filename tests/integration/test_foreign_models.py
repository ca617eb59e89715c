"""facenet@1 and dlib@1 as they are pulled: models of others, to map from."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from models.r3an.report import end_of
from models.zoo import FetchError, Zoo
from models.zoo.map_vectors import unit_source
from services.embedding import Embedder, load_embedder
from services.gateway.alignment import CropGeometry
from services.gateway.faces import FaceChoice
from services.gateway.server import load_pipeline
from services.runtime import EngineOptions
from services.settings import Settings

pytestmark = pytest.mark.slow
FMR = 1e-3


@pytest.fixture(scope="module", params=["facenet", "dlib"])
def embedder(mien_home: Path, request: pytest.FixtureRequest) -> Iterator[Embedder]:
    zoo = Zoo(mien_home)
    try:
        zoo.pull(zoo.card(request.param))
    except FetchError as error:
        reason = f"{request.param} is not here and cannot be downloaded: {error}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    model = load_embedder(zoo, request.param, options=EngineOptions(threads=2))
    yield model
    model.close()


@pytest.fixture(scope="module")
def vectors(embedder: Embedder, mien_home: Path, portraits: Path) -> dict[str, NDArray[np.float32]]:
    pipeline = load_pipeline(Zoo(mien_home), Settings(home=mien_home))
    spec = embedder.card.input
    geometry = CropGeometry(spec.width, spec.height, spec.template, spec.template_scale)
    made = {}
    for name in ("obama", "obama2", "biden"):
        data = (portraits / f"{name}.jpg").read_bytes()
        crop = pipeline.prepare(data, FaceChoice(), geometry, name).crop
        assert crop is not None
        made[name] = embedder.embed(crop[None])[0]
    return made


def test_one_person_is_known_again_and_another_is_told_apart(
    embedder: Embedder, vectors: dict[str, NDArray[np.float32]]
) -> None:
    threshold = embedder.card.threshold(FMR)
    assert threshold is not None

    def similarity(first: str, second: str) -> float:
        one, other = vectors[first], vectors[second]
        if embedder.card.output.metric == "euclidean":
            return -float(np.linalg.norm(one - other))
        return float(one @ other)

    assert similarity("obama", "obama2") > threshold.similarity
    assert similarity("obama", "biden") < threshold.similarity


def test_a_map_can_take_its_vectors(
    embedder: Embedder, vectors: dict[str, NDArray[np.float32]]
) -> None:
    given = np.stack(list(vectors.values()))
    taken = unit_source(given, end_of(embedder.card))
    np.testing.assert_allclose(np.linalg.norm(taken, axis=1), 1, atol=1e-5)
    lengths = np.linalg.norm(given, axis=1)
    if embedder.card.name == "dlib":
        assert (lengths > 1.1).all(), "its users' vectors are longer"
    else:
        np.testing.assert_allclose(lengths, 1, atol=1e-5)


def test_it_is_pulled_only_on_request(embedder: Embedder) -> None:
    assert embedder.card.weights.on_request
