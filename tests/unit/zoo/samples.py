"""An installation of one's own, and cards as an owner writes them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from models.zoo import EmbedderCard, Zoo, ZooError, packaged_zoo, read_card
from models.zoo.card import complete_card
from services.embedding import probe_embedder
from tests.tiny_networks import NOISE, SIDE, YAW_BINS, write_network

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


def card_with(**changes: Any) -> EmbedderCard:
    weights = read_card(RELEASED[0]).weights
    return complete_card(fields(**changes), weights, {"version": "1"})


def decoder(**changes: Any) -> dict[str, Any]:
    """A card's section for a decoder, as an owner writes it."""
    weights = {"sha256": "0" * 64, "size_bytes": 1}
    return {"weights": weights, "yaw_bins": YAW_BINS, "noise": NOISE, **changes}


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
