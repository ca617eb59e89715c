"""Decoders are kept beside their models."""

from typing import Any

import pytest

from models.zoo import WeightsMissingError, Zoo, ZooError
from models.zoo.fetch import file_sha256
from tests.tiny_networks import write_decoder, write_network
from tests.unit.zoo.samples import Installation, decoder, fields


def with_decoder(installation: Installation) -> dict[str, Any]:
    """An owner's card whose decoder lies beside it."""
    path = write_decoder(installation.folder / "decoder.onnx")
    weights = {"sha256": file_sha256(path), "size_bytes": path.stat().st_size}
    return fields(decoder=decoder(weights=weights))


def test_a_decoder_is_added_with_its_model(installation: Installation) -> None:
    content = with_decoder(installation)
    installation.add(content)
    original = (installation.folder / "decoder.onnx").read_bytes()
    (installation.folder / "decoder.onnx").unlink()
    zoo = Zoo(installation.home)
    card = zoo.embedder("legacy")
    assert zoo.decoder(card).read_bytes() == original
    assert zoo.weights(card).read_bytes() != original


def test_a_decoder_that_is_missing_or_another_is_not_added(installation: Installation) -> None:
    content = with_decoder(installation)
    path = installation.folder / "decoder.onnx"
    write_network(path)
    assert "decoder.weights.sha256" in installation.refusal(content)
    path.unlink()
    assert "decoder cannot be read" in installation.refusal(content)


def test_a_decoder_that_was_swapped_or_lost_is_not_served(installation: Installation) -> None:
    card = installation.add(with_decoder(installation))
    path = Zoo(installation.home).decoder(card)
    write_network(path)
    with pytest.raises(ZooError, match=r"SHA-256 differs"):
        Zoo(installation.home).decoder(card)
    path.unlink()
    with pytest.raises(WeightsMissingError, match=r"decoder of legacy@1, decoder\.onnx"):
        Zoo(installation.home).decoder(card)


def test_a_model_without_a_decoder_says_so(installation: Installation) -> None:
    card = installation.add(fields())
    with pytest.raises(ZooError, match=r"legacy@1 has no decoder"):
        installation.zoo.decoder(card)
