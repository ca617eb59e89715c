"""Weights of another format, converted when they are pulled."""

import io
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from models.conversion import convert
from models.zoo import EmbedderCard, Zoo
from models.zoo.card_base import Conversion, PackageSource, UrlSource
from tests.unit.conversion import dlib_writer
from tests.unit.fetch.origin import CONTENT, FILE, MEMBER, Index, Origin, card, refusal, sha256


def converted_card(source: PackageSource | UrlSource, made: bytes, original: bytes) -> EmbedderCard:
    """A model whose weights are converted from `original` to `made`."""
    conversion = Conversion(method="dlib-resnet", file="net.dat", sha256=sha256(original))
    plain = card(source, content=made)
    changed = plain.weights.model_copy(update={"conversion": conversion})
    return plain.model_copy(update={"weights": changed})


def tiny_dlib_file(folder: Path) -> tuple[bytes, bytes]:
    """A network in dlib's format, and what it is converted to."""
    layers = [
        dlib_writer.convolution(np.ones((2, 3, 3, 3), np.float32), np.zeros(2, np.float32), 1, 1),
        dlib_writer.pooling("avg_pool_2", 0, 1),
        dlib_writer.dense(np.ones((2, 8), np.float32)),
    ]
    path = folder / "net.dat"
    path.write_bytes(dlib_writer.network(layers, side=16))
    return path.read_bytes(), convert("dlib-resnet", path)


def test_weights_of_another_format_are_converted_when_they_are_pulled(
    index: Index, tmp_path: Path
) -> None:
    original, made = tiny_dlib_file(tmp_path)
    name = "my_pack-1.0-py3-none-any.whl"
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as file:
        file.writestr(MEMBER, original)
    data = packed.getvalue()
    index.hold(name, data)
    zoo, far = Zoo(tmp_path), converted_card(index.source(name, data), made, original)
    path = zoo.pull(far)
    assert path.read_bytes() == made
    assert path == zoo.weights(far)
    assert [left.name for left in path.parent.iterdir()] == [FILE]


def test_an_original_that_is_not_the_named_one_is_not_converted(
    origin: Origin, tmp_path: Path
) -> None:
    original, made = tiny_dlib_file(tmp_path)
    origin.files[f"/{FILE}"] = original + b"!"
    zoo, far = Zoo(tmp_path), converted_card(origin.source(), made, original)
    assert "is not the expected file" in refusal(lambda: zoo.pull(far))
    assert not list((tmp_path / "weights").rglob("*.*"))


def test_a_conversion_that_gives_other_bytes_is_refused(origin: Origin, tmp_path: Path) -> None:
    original, made = tiny_dlib_file(tmp_path)
    origin.files[f"/{FILE}"] = original
    zoo, far = Zoo(tmp_path), converted_card(origin.source(), made + b"!", original)
    assert "converted, but not to the expected file" in refusal(lambda: zoo.pull(far))
    assert not list((tmp_path / "weights").rglob("*.*"))


def test_an_original_that_cannot_be_converted_is_named(origin: Origin, tmp_path: Path) -> None:
    origin.files[f"/{FILE}"] = CONTENT
    zoo, far = Zoo(tmp_path), converted_card(origin.source(), b"made", CONTENT)
    assert "net.dat was downloaded, but not converted" in refusal(lambda: zoo.pull(far))


def test_a_missing_package_is_told_before_anything_is_downloaded(
    origin: Origin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, made = tiny_dlib_file(tmp_path)
    monkeypatch.setitem(sys.modules, "models.conversion.dlib_resnet", None)
    message = refusal(lambda: Zoo(tmp_path).pull(converted_card(origin.source(), made, original)))
    assert "mien[convert]" in message
    assert not origin.requests
