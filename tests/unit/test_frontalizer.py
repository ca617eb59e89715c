"""Decoders: what is drawn, in which pose, and what does not fit its card."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models.zoo import EmbedderCard
from services.embedding.frontalizer import Frontalizer
from services.embedding.queued import EmbeddedCrop
from services.runtime import Arrays, EngineError, EngineOptions, load_engine
from services.runtime.onnxruntime_engine import OnnxRuntimeEngine
from tests.tiny_networks import NOISE, SIDE, YAW_BINS, expected_pictures, write_decoder

LIGHT = EngineOptions(threads=1)


def card(
    side: int = SIDE, dimension: int = 8, flip_sum: bool = False, **change: Any
) -> EmbedderCard:
    nothing = {"sha256": "0" * 64, "size_bytes": 1}
    return EmbedderCard.model_validate(
        {
            "name": "tiny",
            "version": "1",
            "weights": nothing,
            "input": {"width": side, "height": side},
            "output": {"dimension": dimension, "flip_sum": flip_sum},
            "decoder": {"weights": nothing, "yaw_bins": YAW_BINS, "noise": NOISE, **change},
        }
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_decoder(tmp_path / "decoder.onnx")


def features(count: int) -> NDArray[np.float32]:
    return np.random.default_rng(3).standard_normal((count, 8)).astype(np.float32) * 100


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_each_face_is_drawn_in_its_pose(path: Path, engine: str) -> None:
    frontalizer = Frontalizer(card(), load_engine(path, engine, LIGHT))
    drawn = frontalizer.draw(features(3), [2, 0, 1])
    assert drawn.shape == (3, SIDE, SIDE, 3)
    assert drawn.dtype == np.uint8
    for index, pose in enumerate([2, 0, 1]):
        wanted = expected_pictures(features(3)[index : index + 1], pose)[0]
        # A value that lies between two whole numbers may round either way.
        assert np.abs(drawn[index].astype(int) - wanted.astype(int)).max() <= 1
    noisy = expected_pictures(features(3)[2:], 1, noise=0.5)[0]
    assert np.abs(drawn[2].astype(int) - noisy.astype(int)).max() > 10, "the noise is 0"
    frontalizer.close()


@pytest.mark.parametrize(
    ("yaw", "bin_"), [(0, 0), (14.9, 0), (15, 0), (-15, 0), (15.1, 30), (-16, -30), (180, 30)]
)
def test_the_nearest_bin_is_taken_and_of_two_the_more_frontal(
    path: Path, yaw: float, bin_: float
) -> None:
    frontalizer = Frontalizer(card(), OnnxRuntimeEngine(path, LIGHT))
    assert YAW_BINS[frontalizer.nearest(yaw)] == bin_


def test_a_face_is_drawn_from_what_the_network_gave(path: Path) -> None:
    crop = EmbeddedCrop(np.full(8, 0.5, np.float32), 6.0, None)
    engine = OnnxRuntimeEngine(path, LIGHT)
    assert Frontalizer(card(), engine).feature(crop).tolist() == [3.0] * 8
    # With the mirrored crop's vector added, that is the sum of two.
    assert Frontalizer(card(flip_sum=True), engine).feature(crop).tolist() == [1.5] * 8


@pytest.mark.parametrize(
    ("made", "told"),
    [
        ({"side": 32}, "RGB pictures of 32 x 32"),
        ({"dimension": 9}, "does not fit its card"),
        ({"noise": NOISE + 1}, "does not fit its card"),
        ({"yaw_bins": (0.0,)}, "does not fit its card"),
        ({"tensors": {"pose": "code"}}, "does not fit its card"),
        ({"tensors": {"image": "face"}}, "no output 'face'"),
    ],
)
def test_a_decoder_that_does_not_fit_its_card_is_refused(
    path: Path, made: dict[str, Any], told: str
) -> None:
    with pytest.raises(EngineError, match=f"decoder of tiny@1 .*{told}"):
        Frontalizer(card(**made), OnnxRuntimeEngine(path, LIGHT))


def test_values_that_are_not_finite_are_refused(path: Path) -> None:
    class Broken(OnnxRuntimeEngine):
        def infer(self, inputs: Mapping[str, NDArray[np.float32]]) -> Arrays:
            return {name: array * np.nan for name, array in super().infer(inputs).items()}

    with pytest.raises(EngineError, match="not finite"):
        Frontalizer(card(), Broken(path, LIGHT))


def test_a_card_without_a_decoder_is_refused(path: Path) -> None:
    plain = card().model_copy(update={"decoder": None})
    with pytest.raises(EngineError, match="tiny@1 has no decoder"):
        Frontalizer(plain, OnnxRuntimeEngine(path, LIGHT))
