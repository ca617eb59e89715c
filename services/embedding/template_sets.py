"""Templates that a call asks for: its sets checked, and each made into one vector."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.zoo import EmbedderCard
from services.embedding.queued import EmbeddedCrop
from services.errors import Errors, MienError
from services.rpc.mien.v1 import embedding_pb2
from services.templates import Vector, fuse


def check_sets(request: embedding_pb2.EmbedRequest, card: EmbedderCard) -> None:
    """Checks the sets of a call before anything is computed for it.

    A crop in one set at most keeps the work of a call in proportion to its crops.

    Raises:
        MienError: INVALID_REQUEST with the field at fault.
    """
    taken: set[int] = set()
    for index, one in enumerate(request.templates):
        place = f"templates[{index}]"
        if not one.crops:
            raise _invalid(f"{place}.crops", "A set needs at least one crop.")
        for position, crop in enumerate(one.crops):
            field = f"{place}.crops[{position}]"
            if crop >= len(request.crops):
                raise _invalid(field, f"The call has {len(request.crops)} crops, counted from 0.")
            if crop in taken:
                raise _invalid(field, "This crop is in a set already.")
            taken.add(crop)
        _check_weights(one, f"{place}.weights", card)


def templates(
    request: embedding_pb2.EmbedRequest, crops: Sequence[EmbeddedCrop], card: EmbedderCard
) -> list[Vector]:
    """One vector for each set of a call that has been checked.

    Args:
        request: the call.
        crops: what the model says of each of its crops.
        card: the model's.

    Raises:
        MienError: INVALID_REQUEST for a set whose vectors cancel each other out.
    """
    # Vectors that are compared by angle only have lengths that mean nothing; see `fuse`.
    unit_length = card.output.normalise or card.output.metric == "cosine"
    made = []
    for index, one in enumerate(request.templates):
        members = [crops[place] for place in one.crops]
        try:
            made.append(
                fuse(
                    np.stack([_averaged(member, unit_length) for member in members]),
                    _weights(members, one),
                    unit_length=unit_length,
                )
            )
        except ValueError as error:
            # All else has been checked; this depends on what the network gave.
            raise _invalid(f"templates[{index}]", "Its vectors cancel each other out.") from error
    return made


def _check_weights(one: embedding_pb2.TemplateSet, field: str, card: EmbedderCard) -> None:
    if not one.weights:
        return
    if card.output.weight is not None:
        raise _invalid(field, f"{card.reference} weighs crops itself.")
    if len(one.weights) != len(one.crops):
        raise _invalid(field, f"The set has {len(one.crops)} crops.")
    for position, weight in enumerate(one.weights):
        if not (np.isfinite(weight) and weight >= 0):
            raise _invalid(f"{field}[{position}]", "A weight is a finite number, 0 or more.")
    if not any(one.weights):
        raise _invalid(field, "The weights must not all be 0.")


def _averaged(crop: EmbeddedCrop, unit_length: bool) -> NDArray[np.float32]:
    """What of a crop goes into the mean."""
    if crop.weight is not None:
        return crop.feature
    if not unit_length:
        return crop.vector
    length = float(np.linalg.norm(crop.vector))
    return crop.vector / np.float32(length) if length else crop.vector


def _weights(members: Sequence[EmbeddedCrop], one: embedding_pb2.TemplateSet) -> Sequence[float]:
    learned = [member.weight for member in members if member.weight is not None]
    return learned or list(one.weights) or [1.0] * len(members)


def _invalid(field: str, detail: str) -> MienError:
    return MienError(Errors.INVALID_REQUEST, detail, field=field)
