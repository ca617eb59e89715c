"""Models are found by name and version."""

import pytest

from models.zoo import UnknownModelError, WeightsMissingError, ZooError
from tests.unit.zoo.samples import Installation, fields


def test_a_name_alone_means_the_newest_version(installation: Installation) -> None:
    for version in ("2", "10", "9"):
        installation.add(fields(version=version))
    assert installation.zoo.card("legacy").version == "10"
    assert installation.zoo.card("legacy@2").version == "2"


def test_released_models_are_known_everywhere(installation: Installation) -> None:
    references = [card.reference for card in installation.zoo.cards()]
    assert {"sface@1", "yunet@2023mar"} <= set(references)
    assert references == sorted(references)
    assert installation.zoo.embedder("sface").reference == "sface@1"


@pytest.mark.parametrize("reference", ["nobody", "sface@99", "", "@1"])
def test_an_unknown_model_is_refused_with_those_that_are_known(
    installation: Installation, reference: str
) -> None:
    with pytest.raises(UnknownModelError) as caught:
        installation.zoo.card(reference)
    assert repr(reference) in str(caught.value)
    assert "sface@1" in str(caught.value)
    assert "yunet@2023mar" in str(caught.value)


def test_a_detector_is_no_embedder(installation: Installation) -> None:
    with pytest.raises(UnknownModelError, match=r"yunet@2023mar is a detector"):
        installation.zoo.embedder("yunet")


def test_missing_weights_come_with_the_command_that_gets_them(installation: Installation) -> None:
    with pytest.raises(WeightsMissingError, match=r"mien models pull sface@1"):
        installation.zoo.weights(installation.zoo.card("sface"))


def test_a_damaged_card_is_named_by_its_path(installation: Installation) -> None:
    installation.add(fields())
    path = installation.home / "models" / "legacy" / "1" / "card.json"
    path.write_text(path.read_text().replace("cosine", "manhattan"))
    with pytest.raises(ZooError) as caught:
        installation.zoo.cards()
    assert str(path) in str(caught.value)
    assert "metric" in str(caught.value)
