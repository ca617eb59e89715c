"""What is kept of a card that was changed, and of weights."""

import pytest

from models.zoo import FetchError, ModelThreshold, Zoo, ZooError, write_card
from tests.unit.zoo.samples import Installation, card_with, fields

FITTED = ModelThreshold(
    fmr=1e-3,
    similarity=0.41,
    interval=(0.4, 0.42),
    impostor_comparisons=1000,
    people=20,
    images=50,
    data="test",
    command="mien models calibrate legacy@1",
)


def test_thresholds_are_kept_in_the_card_of_an_added_model(installation: Installation) -> None:
    card = installation.add(fields())
    path = installation.zoo.save(card.model_copy(update={"thresholds": (FITTED,)}))
    assert path.is_relative_to(installation.home)
    again = Zoo(installation.home).embedder("legacy")
    assert again.threshold(1e-3) == FITTED
    assert again.threshold(1e-4) is None
    assert installation.zoo.weights(again).is_file()


def test_thresholds_are_kept_in_the_card_of_a_released_model(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = installation.folder / "released"
    write_card(released / "legacy" / "1" / "card.json", card_with())
    monkeypatch.setattr("models.zoo.zoo.packaged_zoo", lambda: released)
    card = installation.zoo.embedder("legacy")
    path = installation.zoo.save(card.model_copy(update={"thresholds": (FITTED,)}))
    assert path == released / "legacy" / "1" / "card.json"
    assert installation.zoo.embedder("legacy").threshold(1e-3) == FITTED


def test_a_damaged_file_that_cannot_be_downloaded_is_told(installation: Installation) -> None:
    card = installation.add(fields())
    installation.zoo.weights(card).write_bytes(b"damaged")
    with pytest.raises(FetchError) as caught:
        installation.zoo.pull(card)
    assert str(installation.home / "models") in str(caught.value)
    assert "damaged" in str(caught.value)


def test_weights_that_were_swapped_are_not_served_under_the_old_name(
    installation: Installation,
) -> None:
    card = installation.add(fields())
    path = Zoo(installation.home).weights(card)
    swapped = bytearray(path.read_bytes())
    swapped[-1] ^= 1
    path.write_bytes(swapped)
    with pytest.raises(ZooError, match=r"SHA-256 differs.*mien models pull"):
        Zoo(installation.home).weights(card)
