"""Every engine and batch gives a crop the same vector."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from services.embedding.embedder import Embedder
from services.runtime import (
    Engine,
    EngineError,
    EngineOptions,
)
from services.runtime.onnxruntime_engine import OnnxRuntimeEngine
from services.runtime.openvino_engine import OpenVinoEngine
from tests.tiny_networks import SIDE, expected, write_network
from tests.unit.embedder.samples import LIGHT, card, crops

ENGINES: dict[str, Callable[[Path, EngineOptions], Engine]] = {
    "openvino": OpenVinoEngine,
    "onnxruntime": OnnxRuntimeEngine,
}
BATCHES = {"free batch": None, "batch of one": 1}
each_engine = pytest.mark.parametrize("engine", [*ENGINES])
each_file = pytest.mark.parametrize("batch", BATCHES.values(), ids=[*BATCHES])


@pytest.fixture
def tiny(tmp_path: Path) -> Callable[[int | None], Path]:
    return lambda batch: write_network(tmp_path / f"tiny-{batch}.onnx", batch=batch)


Tiny = Callable[[int | None], Path]


@each_engine
@each_file
def test_an_engine_computes_the_network(tiny: Tiny, engine: str, batch: int | None) -> None:
    loaded = ENGINES[engine](tiny(batch), LIGHT)
    assert loaded.info.engine.startswith(engine)
    assert loaded.info.device == "CPU"
    assert [info.name for info in loaded.info.inputs] == ["data"]
    assert [info.name for info in loaded.info.outputs] == ["embedding"]
    for count in (1, 2, 5):
        data = np.random.default_rng(count).random((count, 3, SIDE, SIDE), np.float32)
        found = loaded.infer({"data": data})["embedding"]
        np.testing.assert_allclose(found, expected(data, 8), atol=1e-4)
    loaded.close()


@each_file
def test_engines_agree(tiny: Tiny, batch: int | None) -> None:
    made = [Embedder(card(8, SIDE), load(tiny(batch), LIGHT)) for load in ENGINES.values()]
    one, other = (embedder.embed(crops(7, SIDE)) for embedder in made)
    np.testing.assert_allclose(one, other, atol=1e-5)
    for embedder in made:
        embedder.close()


@each_engine
@each_file
def test_a_crop_has_the_same_vector_alone_and_in_a_batch(
    tiny: Tiny, engine: str, batch: int | None
) -> None:
    embedder = Embedder(card(8, SIDE), ENGINES[engine](tiny(batch), LIGHT))
    many = crops(9, SIDE)
    together = embedder.embed(many)
    alone = np.concatenate([embedder.embed(many[i : i + 1]) for i in range(len(many))])
    np.testing.assert_allclose(together, alone, atol=1e-6)
    embedder.close()


def test_flip_sum_adds_the_vector_of_the_mirrored_crop(tiny: Tiny) -> None:
    engine, given = OpenVinoEngine(tiny(None), LIGHT), crops(3, SIDE)
    plain, summed = (card(8, SIDE, normalise=False, flip_sum=flip) for flip in (False, True))
    both = Embedder(plain, engine).embed(given) + Embedder(plain, engine).embed(given[:, :, ::-1])
    np.testing.assert_allclose(Embedder(summed, engine).embed(given), both, rtol=1e-4, atol=1e-5)
    assert summed.preprocessing_sha256 != plain.preprocessing_sha256


@each_engine
@each_file
def test_calls_at_the_same_time_do_not_mix(tiny: Tiny, engine: str, batch: int | None) -> None:
    loaded = ENGINES[engine](tiny(batch), LIGHT)
    inputs = [
        np.random.default_rng(seed).random((1 + seed % 4, 3, SIDE, SIDE), np.float32)
        for seed in range(200)
    ]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda data: loaded.infer({"data": data})["embedding"], inputs))
    for data, vectors in zip(inputs, found, strict=True):
        np.testing.assert_allclose(vectors, expected(data, 8), atol=1e-4)
    loaded.close()


@each_engine
def test_answers_are_in_memory_of_their_own(tiny: Tiny, engine: str) -> None:
    loaded = ENGINES[engine](tiny(None), EngineOptions(threads=1))
    data = np.ones((1, 3, SIDE, SIDE), np.float32)
    first = loaded.infer({"data": data})["embedding"]
    kept = first.copy()
    for _ in range(5):
        loaded.infer({"data": data * 100})
    assert np.array_equal(first, kept)
    loaded.close()


@each_engine
@pytest.mark.parametrize(
    "inputs",
    [
        {},
        {"other": np.zeros((1, 3, SIDE, SIDE), np.float32)},
        {"data": np.zeros((1, 2, SIDE, SIDE), np.float32)},
        {"data": np.zeros((1, 3, SIDE, 3), np.float32)},
        {"data": np.zeros((1, 3), np.float32)},
    ],
    ids=["nothing", "another name", "two channels", "another size", "another rank"],
)
def test_a_wrong_input_is_an_engine_error_and_the_engine_goes_on(
    tiny: Tiny, engine: str, inputs: dict[str, NDArray[np.float32]]
) -> None:
    loaded = ENGINES[engine](tiny(None), EngineOptions(threads=1))
    for _ in range(3):  # more often than there are requests to be lost
        with pytest.raises(EngineError):
            loaded.infer(inputs)
    data = np.ones((1, 3, SIDE, SIDE), np.float32)
    np.testing.assert_allclose(loaded.infer({"data": data})["embedding"], expected(data, 8), 1e-4)
    loaded.close()


@each_engine
@pytest.mark.parametrize("content", [None, b"", b"not a network"], ids=["absent", "empty", "junk"])
def test_a_file_that_is_no_network(tmp_path: Path, engine: str, content: bytes | None) -> None:
    path = tmp_path / "junk.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(EngineError, match=r"junk\.onnx"):
        ENGINES[engine](path, LIGHT)
