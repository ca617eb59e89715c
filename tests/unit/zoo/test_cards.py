"""Cards: what the owner of a model is told."""

from pathlib import Path
from typing import Any

import pytest

from models.zoo import CropInput, EmbedderCard, packaged_zoo, read_card, write_card
from models.zoo.card import latest
from tests.unit.zoo.samples import RELEASED, Installation, card_with, decoder, fields


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
