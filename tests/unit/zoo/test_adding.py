"""A network and its card are added, or refused with a reason."""

import shutil

import numpy as np
import pytest

from models.zoo import Zoo, ZooError, write_card
from models.zoo.fetch import file_sha256
from services.embedding import probe_embedder
from tests.tiny_networks import write_network
from tests.unit.zoo.samples import Installation, fields, not_probed


def test_an_added_model_can_be_used_from_then_on(installation: Installation) -> None:
    added = installation.add(fields())
    installation.network.unlink()
    again = Zoo(installation.home)
    card = again.embedder("legacy")
    assert card == added
    assert card.reference == "legacy@1", "a card without a version is version 1"
    weights = again.weights(card)
    assert file_sha256(weights) == card.weights.sha256
    assert weights.stat().st_size == card.weights.size_bytes
    probe_embedder(card, weights)
    assert again.pull(card) == weights, "there is nothing to download"


def test_what_the_owner_says_of_the_weights_is_read_off_the_file(
    installation: Installation,
) -> None:
    claimed = {"file": "other.onnx", "sha256": "0" * 64, "size_bytes": 1}
    added = installation.add(fields(weights=claimed))
    assert added.weights.sha256 == file_sha256(installation.network)


def test_another_dimension_than_the_card_says(installation: Installation) -> None:
    message = installation.refusal(fields(**{"output.dimension": 9}))
    assert "output.dimension" in message
    assert "says 9" in message
    assert "gives 8" in message


def test_an_output_that_the_network_does_not_have(installation: Installation) -> None:
    message = installation.refusal(fields(**{"output.name": "vector"}))
    assert "no output 'vector'" in message


def test_a_named_output_is_used(installation: Installation) -> None:
    network = write_network(installation.folder / "named.onnx", output="vector")
    added = installation.add(fields(**{"output.name": "vector"}), network)
    assert added.output.name == "vector"


def test_a_network_for_other_crops(installation: Installation) -> None:
    message = installation.refusal(fields(**{"input.width": 32, "input.height": 32}))
    assert "legacy@1" in message
    assert "32 x 32" in message


def test_a_network_whose_vectors_are_not_finite(installation: Installation) -> None:
    nothing = np.full((48, 8), np.nan, np.float32)
    network = write_network(installation.folder / "nan.onnx", weights=nothing)
    assert "not finite" in installation.refusal(fields(), network)


def test_a_file_that_is_no_network(installation: Installation) -> None:
    network = installation.folder / "junk.onnx"
    network.write_bytes(b"not a network at all")
    message = installation.refusal(fields(), network)
    assert "junk.onnx" in message
    assert "Traceback" not in message


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ('{"name": "legacy",\n "output": }', "mine.json is not JSON (line 2)"),
        ("", "mine.json is not JSON"),
        ("[1, 2]", "must hold a JSON object"),
    ],
)
def test_a_card_that_is_not_json(installation: Installation, content: str, told: str) -> None:
    assert told in installation.refusal(content)


def test_files_that_cannot_be_read(installation: Installation) -> None:
    card = installation.card_file(fields())
    with pytest.raises(ZooError, match="cannot be read"):
        installation.zoo.add(installation.folder / "absent.onnx", card, not_probed)
    with pytest.raises(ZooError, match="cannot be read"):
        installation.zoo.add(installation.network, card.with_name("absent.json"), not_probed)


def test_a_name_and_version_are_not_given_to_other_weights(installation: Installation) -> None:
    first = installation.add(fields())
    other = write_network(installation.folder / "other.onnx", weights=np.ones((48, 8), np.float32))
    assert "legacy@1 is taken by other weights" in installation.refusal(fields(), other)
    assert file_sha256(installation.zoo.weights(first)) == first.weights.sha256
    assert installation.add(fields(version="2"), other).reference == "legacy@2"


@pytest.mark.parametrize("stored", [False, True], ids=["own file", "the stored copy"])
def test_the_same_weights_may_get_a_better_card(installation: Installation, stored: bool) -> None:
    first = installation.add(fields())
    network = installation.zoo.weights(first) if stored else installation.network
    installation.add(fields(title="With a title"), network)
    card = installation.zoo.embedder("legacy")
    assert card.title == "With a title"
    assert file_sha256(installation.zoo.weights(card)) == first.weights.sha256


@pytest.mark.parametrize("same_weights", [True, False])
def test_a_released_model_cannot_be_replaced(
    installation: Installation, monkeypatch: pytest.MonkeyPatch, same_weights: bool
) -> None:
    released = installation.folder / "released"
    folder = released / "legacy" / "1"
    write_card(folder / "card.json", installation.add(fields(title="As released")))
    shutil.copyfile(installation.network, folder / "model.onnx")
    shutil.rmtree(installation.home)
    monkeypatch.setattr("models.zoo.zoo.packaged_zoo", lambda: released)
    if not same_weights:
        write_network(installation.network, weights=np.ones((48, 8), np.float32))
    message = installation.refusal(fields(title="Mine"))
    assert "legacy@1 is" in message
    assert installation.zoo.embedder("legacy").title == "As released"


def test_the_name_of_a_detector_is_not_given_to_an_embedder(installation: Installation) -> None:
    message = installation.refusal(fields(name="yunet", version="9"))
    assert "yunet is the name of a detector" in message
