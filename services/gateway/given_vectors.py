"""Vectors that a caller has, with their full identity: taken only where it is the gallery's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from services.errors import Errors, MienError
from services.gallery import Space
from services.gallery.checks import checked_vectors

Vector = NDArray[np.float32]
_BYTES = 4  # of a number


@dataclass(frozen=True, eq=False)
class GivenVector:
    """A vector of the caller's.

    Attributes:
        values: dimension x float32, not checked yet.
        model: name of the model that made it.
        version: of the model.
        weights_sha256: of the model.
        preprocessing_sha256: of the model.
        mapped: it was made by a map.
        quality: unified quality of the picture, 0 to 100.
        pictures: how many pictures are fused in it.
    """

    values: Vector = field(repr=False)
    model: str
    version: str
    weights_sha256: str
    preprocessing_sha256: str
    mapped: bool = False
    quality: float = 0.0
    pictures: int = 1


def vector_of_bytes(data: bytes, field_name: str) -> Vector:
    """A vector from little-endian float32.

    Raises:
        MienError: it is empty, or its length is not a multiple of 4 bytes.
    """
    if not data or len(data) % _BYTES:
        raise MienError(
            Errors.TEMPLATE_INVALID, "A vector is little-endian float32.", field=field_name
        )
    return np.frombuffer(data, "<f4").astype(np.float32)


def stacked(given: Sequence[GivenVector], space: Space, fields: Sequence[str]) -> Vector:
    """The vectors as they are stored and compared.

    Args:
        given: at least one.
        space: that they must be of.
        fields: the request's field of each, for errors.

    Returns:
        N x dimension float32.

    Raises:
        MienError: one is of another identity, mapped, not finite, or of the wrong length.
    """
    rows = []
    for one, name in zip(given, fields, strict=True):
        told = (one.model, one.version, one.weights_sha256, one.preprocessing_sha256)
        own = (space.model, space.version, space.weights_sha256, space.preprocessing_sha256)
        if told != own or one.mapped:
            raise MienError(
                Errors.IDENTITY_MISMATCH,
                f"The gallery lives by {space.reference}: give its native vectors, with the hashes "
                "of its weights and preprocessing.",
                field=f"{name}.model",
            )
        try:
            rows.append(checked_vectors(space, one.values[None])[0])
        except MienError as error:
            raise MienError(error.error, error.detail, field=name) from error
    return np.stack(rows)
