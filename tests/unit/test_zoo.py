"""Cards and the zoo: what the owner of a model is told, and what is kept of it."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.zoo import (
    CropInput,
    EmbedderCard,
    FetchError,
    ModelThreshold,
    UnknownModelError,
    WeightsMissingError,
    Zoo,
    ZooError,
    packaged_zoo,
    read_card,
    write_card,
)
from models.zoo.card import complete_card, latest
from models.zoo.fetch import file_sha256
from services.embedding import probe_embedder
from tests.tiny_networks import NOISE, SIDE, YAW_BINS, write_decoder, write_network

RELEASED = sorted(packaged_zoo().glob("*/*/card.json"))


def fields(**changes: Any) -> dict[str, Any]:
    """The least that an owner writes; dots in a key lead into objects."""
    card: dict[str, Any] = {
        "name": "legacy",
        "input": {"width": SIDE, "height": SIDE},
        "output": {"dimension": 8},
    }
    for path, value in changes.items():
        *outer, last = path.split(".")
        place = card
        for name in outer:
            place = place[name]
        place[last] = value
    return card


def not_probed(_: EmbedderCard, __: Path) -> None:
    """Stands for the trial run where it does not matter."""


class Installation:
    """A zoo in an empty folder, and files to be added to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.zoo = Zoo(self.home)
        self.network = write_network(folder / "network.onnx")

    def card_file(self, content: Mapping[str, Any] | str) -> Path:
        path = self.folder / "mine.json"
        text = content if isinstance(content, str) else json.dumps(content)
        path.write_text(text, encoding="utf-8")
        return path

    def add(self, content: Mapping[str, Any] | str, network: Path | None = None) -> EmbedderCard:
        return self.zoo.add(network or self.network, self.card_file(content), probe_embedder)

    def refusal(self, content: Mapping[str, Any] | str, network: Path | None = None) -> str:
        """What `add` says against it; nothing may be left behind."""
        before = [card.reference for card in self.zoo.cards()]
        with pytest.raises(ZooError) as caught:
            self.add(content, network)
        assert [card.reference for card in self.zoo.cards()] == before
        return str(caught.value)


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    return Installation(tmp_path)


# --- cards -----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", RELEASED, ids=lambda path: "@".join(path.parts[-3:-1]))
def test_released_cards_are_valid_and_can_be_had(path: Path) -> None:
    card = read_card(path)
    assert (card.name, card.version) == path.parts[-3:-1]
    assert card.licence != "unknown"
    assert card.weights.sources or (path.parent / card.weights.file).is_file()
    if isinstance(card, EmbedderCard):
        by_rate = sorted(card.thresholds, key=lambda threshold: -threshold.fmr)
        assert [t.fmr for t in by_rate] == [1e-2, 1e-3, 1e-4]
        similarities = [t.similarity for t in by_rate]
        assert similarities == sorted(similarities), "a stricter rate needs a higher threshold"
        assert all(t.interval[0] <= t.similarity <= t.interval[1] for t in by_rate)


def test_there_are_released_cards() -> None:
    assert len(RELEASED) >= 2


@pytest.mark.parametrize(
    ("place", "value", "named"),
    [
        ("name", "Legacy Model", "name"),
        ("name", "../legacy", "name"),
        ("version", "../1", "version"),
        ("version", 3, "version"),
        ("card_schema", 2, "card_schema"),
        ("kind", "detector", "kind"),
        ("colour", "red", "colour"),
        ("input.width", 8, "input.width"),
        ("input.height", "tall", "input.height"),
        ("input.channel_order", "GRB", "input.channel_order"),
        ("input.pixel_range", 2, "input.pixel_range"),
        ("input.mean", [1, 2], "input.mean"),
        ("input.mean", float("nan"), "input.mean"),
        ("input.std", 0, "std"),
        ("input.std", [1, -1, 1], "std"),
        ("input.template", "own", "input.template"),
        ("input.template_scale", 5, "input.template_scale"),
        ("input.gamma", 2.2, "input.gamma"),
        ("output.dimension", 0, "output.dimension"),
        ("output.metric", "manhattan", "output.metric"),
        ("output.normalise", "perhaps", "output.normalise"),
        ("output.weight", 1, "output.weight"),
        ("output", {"dimension": 8, "name": "both", "weight": "both"}, "weight"),
        ("thresholds", [{"fmr": 2}], "thresholds.0.fmr"),
        ("metrics", [{"date": "yesterday"}], "metrics.0.date"),
    ],
)
def test_an_invalid_field_is_named(
    installation: Installation, place: str, value: object, named: str
) -> None:
    message = installation.refusal(fields(**{place: value}))
    assert "mine.json is not a valid card" in message
    assert named in message


def test_a_missing_field_is_named(installation: Installation) -> None:
    card = fields()
    del card["output"]["dimension"]
    assert "output.dimension: Field required" in installation.refusal(card)


def test_all_faults_are_told_at_once(installation: Installation) -> None:
    message = installation.refusal(fields(**{"input.width": 8, "output.metric": "manhattan"}))
    assert "input.width" in message
    assert "output.metric" in message


def card_with(**changes: Any) -> EmbedderCard:
    weights = read_card(RELEASED[0]).weights
    return complete_card(fields(**changes), weights, {"version": "1"})


def test_one_number_stands_for_all_channels() -> None:
    short = card_with(**{"input.mean": 127.5, "input.std": 128})
    long = card_with(**{"input.mean": [127.5] * 3, "input.std": [128.0] * 3})
    assert short.input == long.input
    assert short.preprocessing_sha256 == long.preprocessing_sha256


OTHER_INPUT: dict[str, object] = {
    "width": 96,
    "height": 96,
    "channel_order": "BGR",
    "pixel_range": 1,
    "mean": [0, 0, 1],
    "std": [1, 1, 2],
    "per_image_whitening": True,
    "template": "dlib",
    "template_scale": 1.1,
}


def test_the_table_above_has_every_field_that_can_vary() -> None:
    assert set(OTHER_INPUT) == set(CropInput.model_fields)


@pytest.mark.parametrize("field", [*OTHER_INPUT])
def test_the_preprocessing_hash_depends_on_each_input_field(field: str) -> None:
    changed = card_with(**{f"input.{field}": OTHER_INPUT[field]})
    assert changed.preprocessing_sha256 != card_with().preprocessing_sha256


@pytest.mark.parametrize(
    ("field", "value"),
    [("normalise", False), ("name", "second"), ("flip_sum", True), ("weight", "weight")],
)
def test_the_preprocessing_hash_depends_on_what_is_made_of_the_output(
    field: str, value: object
) -> None:
    changed = card_with(**{f"output.{field}": value})
    assert changed.preprocessing_sha256 != card_with().preprocessing_sha256


@pytest.mark.parametrize("field", ["title", "description", "licence", "attribution"])
def test_the_preprocessing_hash_does_not_depend_on_words(field: str) -> None:
    changed = card_with(**{field: "another"})
    assert changed.preprocessing_sha256 == card_with().preprocessing_sha256


def test_cards_from_before_an_option_keep_their_hash() -> None:
    for name in ("sface", "poseface"):
        card = read_card(packaged_zoo() / name / "1" / "card.json")
        assert isinstance(card, EmbedderCard)
        assert card.preprocessing_sha256 == (
            "4803d7aa0dcffcb4e0a9f9de3e39e17c60512fecc234cc80b19e386d9de78021"
        )


def test_the_preprocessing_hash_does_not_depend_on_the_decoder() -> None:
    assert card_with(decoder=decoder()).preprocessing_sha256 == card_with().preprocessing_sha256


def decoder(**changes: Any) -> dict[str, Any]:
    """A card's section for a decoder, as an owner writes it."""
    weights = {"sha256": "0" * 64, "size_bytes": 1}
    return {"weights": weights, "yaw_bins": YAW_BINS, "noise": NOISE, **changes}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"yaw_bins": [30, 0, -30]}, "ascend"),
        ({"yaw_bins": [0, 0]}, "ascend"),
        ({"yaw_bins": [-15, 15]}, "0, the frontal view"),
        ({"yaw_bins": [0, 181]}, "degrees"),
        ({"yaw_bins": []}, "decoder.yaw_bins"),
        ({"noise": 0}, "decoder.noise"),
        ({"tensors": {"picture": "image"}}, "decoder.tensors.picture"),
        ({"weights": {"sha256": "0" * 64, "size_bytes": 1, "file": ".."}}, "decoder.weights.file"),
        (
            {"weights": {"sha256": "0" * 64, "size_bytes": 1, "file": "model.onnx"}},
            "another file than the embedder's",
        ),
        ({"weights": {"file": "decoder.onnx", "size_bytes": 1}}, "decoder.weights.sha256"),
    ],
)
def test_an_invalid_decoder_is_named(
    installation: Installation, change: dict[str, Any], named: str
) -> None:
    assert named in installation.refusal(fields(decoder=decoder(**change)))


def test_a_card_is_the_same_after_writing_and_reading(tmp_path: Path) -> None:
    card = card_with(**{"title": "Größe", "input.mean": 127.5, "output.metric": "euclidean"})
    write_card(tmp_path / "deep" / "card.json", card)
    assert read_card(tmp_path / "deep" / "card.json") == card
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["card.json"]


@pytest.mark.parametrize(
    ("versions", "newest"),
    [
        (["2", "10"], "10"),
        (["1.9", "1.10"], "1.10"),
        (["1", "1.0.1"], "1.0.1"),
        (["2022dec", "2023mar"], "2023mar"),
        (["draft", "1"], "1"),
        (["7"], "7"),
    ],
)
def test_the_newest_version(versions: list[str], newest: str) -> None:
    assert latest(versions) == newest
    assert latest(versions[::-1]) == newest


# --- finding models --------------------------------------------------------------------------


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


# --- adding a model --------------------------------------------------------------------------


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


# --- decoders --------------------------------------------------------------------------------


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


# --- keeping a changed card ------------------------------------------------------------------

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
