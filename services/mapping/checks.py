"""What every batch of vectors must be before it is mapped; a refusal names the field at fault."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from models.zoo import MapCard
from models.zoo.map_vectors import VectorError, unit_source
from services.errors import Errors, MienError
from services.mapping.mapper import Vectors
from services.rpc.mien.v1 import model_pb2

_IDENTITY = ("name", "version", "weights_sha256", "preprocessing_sha256")


def check_source(source: model_pb2.ModelIdentity, card: MapCard) -> None:
    """Checks that vectors are native ones of the model that a map was made for.

    Raises:
        MienError: IDENTITY_MISMATCH.
    """
    if source.origin == model_pb2.VECTOR_ORIGIN_MAPPED or source.map:
        # Errors add up from map to map: each maps from what was computed from a picture.
        raise _mismatch("origin", "These vectors are mapped already; map the original ones.")
    if source.origin != model_pb2.VECTOR_ORIGIN_NATIVE:
        raise _mismatch("origin", "It must be said that the vectors are native.")
    for name in _IDENTITY:
        if getattr(source, name) != getattr(card.source, name):
            raise _mismatch(name, f"{card.reference} maps vectors of {card.source.reference}.")


def unpacked(packed: Sequence[bytes], card: MapCard, most: int) -> Vectors:
    """The vectors of a request as one array: N x dimension float32, of length 1.

    Args:
        packed: dimension x 4 bytes each, little-endian float32.
        card: of the map.
        most: vectors that are accepted in one batch.

    Raises:
        MienError: INVALID_REQUEST or REQUEST_TOO_LARGE.
    """
    if not packed:
        raise MienError(Errors.INVALID_REQUEST, "At least one vector is needed.", field="vectors")
    if len(packed) > most:
        raise MienError(
            Errors.REQUEST_TOO_LARGE,
            f"At most {most} vectors are accepted in one batch.",
            field="vectors",
        )
    size = card.source.dimension * 4
    for index, one in enumerate(packed):
        if len(one) != size:
            raise MienError(
                Errors.INVALID_REQUEST,
                f"A vector for this map is {card.source.dimension} x 4 = {size} bytes.",
                field=f"vectors[{index}]",
            )
    vectors = np.frombuffer(b"".join(packed), "<f4").reshape(len(packed), -1)
    return source_vectors(vectors, card, "vectors[{}]")


def source_vectors(vectors: Vectors, card: MapCard, field: str) -> Vectors:
    """Vectors of a map's source model as the map takes them, of length 1.

    Args:
        vectors: N x dimension.
        card: of the map.
        field: what a row is called, with a place for its number.

    Raises:
        MienError: INVALID_REQUEST, for the first that is no vector of that model.
    """
    try:
        return unit_source(vectors, card.source)
    except VectorError as error:
        place = field.format(error.row)
        raise MienError(Errors.INVALID_REQUEST, error.why, field=place) from error


def _mismatch(name: str, detail: str) -> MienError:
    return MienError(Errors.IDENTITY_MISMATCH, detail, field=f"source.{name}")
