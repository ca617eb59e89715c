"""Embedding: what is done to a crop, and that every engine and batch gives the same vector."""

import json
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models.zoo import CropInput, EmbedderCard, Zoo
from models.zoo.card import complete_card
from models.zoo.card_base import Weights
from services.embedding.embedder import Embedder, load_embedder, prepare_crops
from services.runtime import (
    Arrays,
    Engine,
    EngineError,
    EngineOptions,
    TensorInfo,
)
from services.runtime.onnxruntime_engine import OnnxRuntimeEngine
from services.runtime.openvino_engine import OpenVinoEngine
from services.runtime.weightless_engine import WeightlessEngine
from tests.tiny_networks import SIDE, expected, expected_weights, write_network

Crops = NDArray[np.uint8]
ENGINES: dict[str, Callable[[Path, EngineOptions], Engine]] = {
    "openvino": OpenVinoEngine,
    "onnxruntime": OnnxRuntimeEngine,
}
BATCHES = {"free batch": None, "batch of one": 1}
LIGHT = EngineOptions(threads=2)
each_engine = pytest.mark.parametrize("engine", [*ENGINES])
each_file = pytest.mark.parametrize("batch", BATCHES.values(), ids=[*BATCHES])


def crops(count: int, side: int = 112, seed: int = 0) -> Crops:
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), np.uint8)


def card(dimension: int = 64, side: int = 112, **output: Any) -> EmbedderCard:
    fields = {
        "name": "tiny",
        "input": {"width": side, "height": side},
        "output": {"dimension": dimension, **output},
    }
    return complete_card(fields, Weights(sha256="0" * 64, size_bytes=1), {"version": "1"})


# --- what the card says is done to a crop ----------------------------------------------------


def colours(red: int, green: int, blue: int) -> Crops:
    return np.tile(np.array([red, green, blue], np.uint8), (1, SIDE, SIDE, 1))


@pytest.mark.parametrize(
    ("spec", "channels"),
    [
        ({}, (10, 100, 200)),
        ({"channel_order": "BGR"}, (200, 100, 10)),
        ({"pixel_range": 1}, (10 / 255, 100 / 255, 200 / 255)),
        ({"mean": 127.5, "std": 128}, (-117.5 / 128, -27.5 / 128, 72.5 / 128)),
        ({"mean": [10, 20, 30]}, (0, 80, 170)),
        ({"std": [2, 4, 8]}, (5, 25, 25)),
        # Mean and std belong to the channels in the order that the network takes.
        ({"mean": [10, 20, 30], "channel_order": "BGR"}, (190, 80, -20)),
        (
            {"pixel_range": 1, "mean": 0.5, "std": 0.5, "channel_order": "BGR"},
            (200 / 127.5 - 1, 100 / 127.5 - 1, 10 / 127.5 - 1),
        ),
    ],
)
def test_a_colour_becomes_what_the_card_says(
    spec: dict[str, Any], channels: tuple[float, float, float]
) -> None:
    batch = prepare_crops(colours(10, 100, 200), CropInput.model_validate(spec))
    assert batch.dtype == np.float32
    assert batch.shape == (1, 3, SIDE, SIDE)
    assert batch.flags["C_CONTIGUOUS"]
    for channel, value in enumerate(channels):
        np.testing.assert_allclose(batch[0, channel], value, atol=1e-5)


def test_rows_stay_rows_and_columns_columns() -> None:
    crop = np.zeros((1, SIDE, SIDE, 3), np.uint8)
    crop[0, 3, 7] = (1, 2, 3)
    batch = prepare_crops(crop, CropInput())
    assert batch[0, :, 3, 7].tolist() == [1, 2, 3]
    assert batch.sum() == 6


@pytest.mark.parametrize("order", ["RGB", "BGR"])
def test_whitening_uses_each_crops_own_mean_and_deviation(order: str) -> None:
    spec = CropInput.model_validate({"per_image_whitening": True, "channel_order": order})
    two = np.concatenate([crops(1, seed=1), crops(1, seed=2) // 4])
    batch = prepare_crops(two, spec)
    for crop, made in zip(two, batch, strict=True):
        values = crop.astype(np.float64)
        white = (values - values.mean()) / values.std()
        ordered = white if order == "RGB" else white[..., ::-1]
        np.testing.assert_allclose(made, ordered.transpose(2, 0, 1), atol=1e-4)


def test_whitening_a_crop_of_one_colour_stays_finite() -> None:
    spec = CropInput.model_validate({"per_image_whitening": True})
    assert prepare_crops(colours(7, 7, 7), spec).tolist() == np.zeros((1, 3, SIDE, SIDE)).tolist()


@pytest.mark.parametrize("spec", [{}, {"mean": 5, "std": 2, "pixel_range": 1}])
def test_the_crops_themselves_are_left_as_they_are(spec: dict[str, Any]) -> None:
    given = crops(2)
    before = given.copy()
    prepare_crops(given, CropInput.model_validate(spec))
    assert np.array_equal(given, before)


# --- vectors ---------------------------------------------------------------------------------


@pytest.fixture
def weightless() -> Iterator[Embedder]:
    embedder = Embedder(card(), WeightlessEngine())
    yield embedder
    embedder.close()


def test_vectors_have_the_dimension_and_unit_length(weightless: Embedder) -> None:
    vectors = weightless.embed(crops(3))
    assert vectors.shape == (3, 64)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_lengths_are_kept_where_the_card_says_so() -> None:
    embedder = Embedder(card(normalise=False), WeightlessEngine())
    plain = embedder.embed(crops(3))
    assert np.linalg.norm(plain, axis=1).min() > 1.5
    embedder.close()


def test_a_vector_of_zeros_stays_finite(weightless: Embedder) -> None:
    vectors = weightless.embed(np.full((1, 112, 112, 3), 90, np.uint8))
    assert np.isfinite(vectors).all()


class Answering(WeightlessEngine):
    """Gives what it is told to."""

    def __init__(self, answer: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> None:
        super().__init__()
        self._answer = answer

    def infer(self, inputs: Mapping[str, NDArray[np.float32]]) -> Arrays:
        return {"embedding": self._answer(inputs["data"])}


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(value: float) -> None:
    def answer(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        vectors = np.ones((len(batch), 64), np.float32)
        vectors[-1, 5] = value
        return vectors

    embedder = Embedder(card(), Answering(answer))
    with pytest.raises(EngineError, match=r"tiny@1 gave values that are not finite"):
        embedder.embed(crops(3))
    embedder.close()


def test_vectors_of_any_shape_are_flattened() -> None:
    embedder = Embedder(
        card(), Answering(lambda batch: np.ones((len(batch), 64, 1, 1), np.float32))
    )
    assert embedder.embed(crops(3)).shape == (3, 64)
    embedder.close()


def test_a_card_that_names_an_output_which_is_not_there() -> None:
    with pytest.raises(EngineError, match=r"no output 'vector'"):
        Embedder(card(name="vector"), WeightlessEngine())


# --- fusion weights --------------------------------------------------------------------------


@pytest.mark.parametrize("named", ["embedding", None])
@pytest.mark.parametrize("first", [False, True], ids=["vectors first", "weights first"])
@pytest.mark.parametrize("engine", [OpenVinoEngine, OnnxRuntimeEngine])
def test_weights_come_beside_the_vectors(
    tmp_path: Path,
    engine: Callable[[Path, EngineOptions], Engine],
    first: bool,
    named: str | None,
) -> None:
    path = write_network(tmp_path / "tiny.onnx", fusion="omega", fusion_first=first)
    embedder = Embedder(card(8, SIDE, weight="omega", name=named), engine(path, LIGHT))
    given = crops(5, SIDE)
    pixels = given.transpose(0, 3, 1, 2).astype(np.float32)
    done = embedder.embed_batch(given)
    assert done.weights is not None
    assert done.weights.std() > 0.01, "weights that are all alike could be mixed up"
    np.testing.assert_allclose(done.weights, expected_weights(pixels)[:, 0], atol=1e-5)
    raw = expected(pixels, 8)
    np.testing.assert_allclose(done.vectors * done.lengths[:, None], raw, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(np.linalg.norm(done.vectors, axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(
        embedder.embed(given[:1]), embedder.embed_batch(given[:1]).vectors
    )
    embedder.close()


def test_a_mirrored_crop_shares_in_the_weight(tmp_path: Path) -> None:
    path = write_network(tmp_path / "tiny.onnx", fusion="omega")
    embedder = Embedder(
        card(8, SIDE, weight="omega", flip_sum=True), OnnxRuntimeEngine(path, LIGHT)
    )
    given = crops(3, SIDE)
    both = [expected_weights(one.transpose(0, 3, 1, 2).astype(np.float32))[:, 0]
            for one in (given, given[:, :, ::-1])]  # fmt: skip
    done = embedder.embed_batch(given)
    assert done.weights is not None
    np.testing.assert_allclose(done.weights, (both[0] + both[1]) / 2, atol=1e-5)
    embedder.close()


def test_a_model_without_weights_has_none(weightless: Embedder) -> None:
    done = weightless.embed_batch(crops(2))
    assert done.weights is None
    kept = Embedder(card(normalise=False), WeightlessEngine()).embed_batch(crops(2))
    np.testing.assert_allclose(done.vectors * done.lengths[:, None], kept.vectors, rtol=1e-5)
    assert kept.lengths.tolist() == [1, 1]


class Weighing(WeightlessEngine):
    """Gives the weights that it is told to, whatever the crops."""

    def __init__(self, *weights: float) -> None:
        super().__init__()
        self._given = np.array(weights, np.float32)[:, None]
        outputs = (*super().info.outputs, TensorInfo("weight", (-1, 1)))
        self._info = replace(super().info, outputs=outputs)

    def infer(self, inputs: Mapping[str, NDArray[np.float32]]) -> Arrays:
        return {**super().infer(inputs), "weight": self._given}


def test_a_weight_that_rounds_to_nothing_still_counts_a_little() -> None:
    done = Embedder(card(weight="weight"), Weighing(0.0, 1.0)).embed_batch(crops(2))
    assert done.weights is not None
    assert 0 < done.weights[0] < 1e-5
    assert done.weights[1] == 1


@pytest.mark.parametrize(
    ("weights", "told"),
    [
        ((0.5, 1.01), "between 0 and 1"),
        ((0.5, -0.01), "between 0 and 1"),
        ((0.5, np.nan), "between 0 and 1"),
        ((0.5, 0.5, 0.5, 0.5), "one number for each crop, not 2"),
        ((0.5,), "one number for each crop, not 0.5"),
    ],
)
def test_what_is_no_weight_is_refused(weights: tuple[float, ...], told: str) -> None:
    with pytest.raises(EngineError, match=f"output.weight: tiny@1 .*{told}"):
        Embedder(card(weight="weight"), Weighing(*weights)).embed_batch(crops(2))


def test_a_card_that_names_a_weight_which_is_not_there() -> None:
    with pytest.raises(EngineError, match=r"no output 'omega'"):
        Embedder(card(weight="omega"), WeightlessEngine())


# --- engines ---------------------------------------------------------------------------------


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


# --- a model of the zoo ----------------------------------------------------------------------


def added(tmp_path: Path, **fields: Any) -> Zoo:
    """A zoo with a tiny model in it, whose card may say anything."""
    described = {
        "name": "tiny",
        "input": {"width": SIDE, "height": SIDE},
        "output": {"dimension": 8},
        **fields,
    }
    (tmp_path / "card.json").write_text(json.dumps(described))
    zoo = Zoo(tmp_path / "home")
    network = write_network(tmp_path / "tiny.onnx")
    zoo.add(network, tmp_path / "card.json", lambda _, __: None)
    return zoo


def test_a_model_is_loaded_by_name(tmp_path: Path) -> None:
    embedder = load_embedder(added(tmp_path), "tiny", options=LIGHT)
    given = crops(2, SIDE)
    vectors = embedder.embed(given)
    plain = expected(given.transpose(0, 3, 1, 2).astype(np.float32), 8)
    np.testing.assert_allclose(
        vectors, plain / np.linalg.norm(plain, axis=1, keepdims=True), atol=1e-5
    )
    assert embedder.crop_bytes == SIDE * SIDE * 3
    embedder.close()


def test_a_model_of_another_dimension_is_not_served(tmp_path: Path) -> None:
    zoo = added(tmp_path, output={"dimension": 9})
    with pytest.raises(EngineError, match=r"output\.dimension: .*says 9, the network gives 8"):
        load_embedder(zoo, "tiny", options=LIGHT)


def test_a_model_for_other_crops_is_not_served(tmp_path: Path) -> None:
    zoo = added(tmp_path, input={"width": 32, "height": 16})
    with pytest.raises(EngineError, match=r"tiny@1 cannot run on RGB crops of 32 x 16"):
        load_embedder(zoo, "tiny", options=LIGHT)
