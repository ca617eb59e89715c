"""What is checked of a model that an operator adds: its card, and the files that belong to it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from models.zoo.card import AnyCard, EmbedderCard, complete_card, complete_map_card
from models.zoo.card_base import Weights
from models.zoo.errors import ZooError
from models.zoo.fetch import file_sha256
from models.zoo.map_card import MapCard

_Card = TypeVar("_Card", EmbedderCard, MapCard)
_Complete = Callable[[dict[str, Any], Weights, dict[str, Any]], _Card]


def kind_of(card: Path) -> str:
    """The kind that an owner's card names: an embedder if it names none.

    Raises:
        ZooError: the file cannot be read, or holds no card.
    """
    return str(_fields(card).get("kind", "embedder"))


def completed_embedder(weights: Path, card: Path) -> EmbedderCard:
    """An owner's card of an embedder, with what was read off the weights file.

    Raises:
        ZooError: a file cannot be read, or the card is not valid.
    """
    return _completed(weights, card, complete_card)


def completed_map(weights: Path, card: Path) -> MapCard:
    """The card of a map, likewise.

    It holds thresholds and a confidence that were measured with one file: it must be this one.

    Raises:
        ZooError: as `completed_embedder`, or the card is that of another map.
    """
    made = _completed(weights, card, complete_map_card)
    named = _fields(card).get("weights")
    if not isinstance(named, dict) or named.get("sha256") != made.weights.sha256:
        raise ZooError(f"weights.sha256: {card.name} is not the card of {weights.name}.")
    return made


def _completed(weights: Path, card: Path, complete: _Complete[_Card]) -> _Card:
    fields = _fields(card)
    try:
        described = Weights(
            file="model.onnx", sha256=file_sha256(weights), size_bytes=weights.stat().st_size
        )
    except OSError as error:
        raise ZooError(f"The file cannot be read: {weights}") from error
    try:
        return complete(fields, described, {"version": "1"})
    except ValidationError as error:
        raise ZooError(f"{card.name} is not a valid card. {explain(error)}") from error


def check_ends(card: MapCard, known: Mapping[str, AnyCard]) -> None:
    """Checks that the two models of a map are those that are known by their names.

    One that is not known here, such as an old model of which only vectors are left, is taken on
    trust.

    Raises:
        ZooError: names the field at fault.
    """
    for place, end in (("source", card.source), ("target", card.target)):
        model = known.get(end.reference)
        if model is None:
            continue
        if not isinstance(model, EmbedderCard):
            raise ZooError(f"{place}: {end.reference} is {a_kind(model)}, not an embedder.")
        own = {
            "weights_sha256": model.weights.sha256,
            "preprocessing_sha256": model.preprocessing_sha256,
            "dimension": model.output.dimension,
            "unit_length": model.output.normalise,
        }
        for name, value in own.items():
            if getattr(end, name) != value:
                raise ZooError(
                    f"{place}.{name}: {end.reference} is another model here than the map's."
                )


def decoder_beside(card: Path, filled: EmbedderCard) -> Path | None:
    """The decoder that an owner's card names, if it names one.

    Raises:
        ZooError: it is not there, or is another file.
    """
    if filled.decoder is None:
        return None
    named = filled.decoder.weights
    path = card.parent / named.file
    try:
        same = file_sha256(path) == named.sha256
    except OSError as error:
        raise ZooError(f"The decoder cannot be read: {path}") from error
    if not same:
        raise ZooError(f"decoder.weights.sha256: {path} has another.")
    return path


def copied(source: Path, target: Path) -> None:
    """Copies a file, unless it is there already."""
    if not (target.exists() and target.samefile(source)):  # only its card is new
        shutil.copyfile(source, target)


def a_kind(card: AnyCard) -> str:
    """What kind of model it is, as a sentence says it: "a map", "an embedder"."""
    return f"{'an' if card.kind[0] in 'aeiou' else 'a'} {card.kind}"


def explain(error: ValidationError) -> str:
    """Names each field at fault without repeating its value."""
    faults = error.errors(include_input=False, include_url=False)
    return "; ".join(
        f"{'.'.join(str(p) for p in fault['loc'])}: {fault['msg']}" for fault in faults
    )


def _fields(card: Path) -> dict[str, Any]:
    """The JSON object of an owner's card."""
    try:
        fields = json.loads(card.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ZooError(f"The file cannot be read: {card}") from error
    except json.JSONDecodeError as error:
        raise ZooError(f"{card.name} is not JSON (line {error.lineno}).") from error
    if not isinstance(fields, dict):
        raise ZooError(f"{card.name} must hold a JSON object.")
    return fields
