"""What every adapter refuses: names, numbers and vectors that are not valid."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable

import numpy as np

from services.errors import Errors, MienError
from services.gallery.values import MAX_PAGE, NewTemplate, Space, Subject, Template, Vector

# Ids go into keys, file names of exports and URLs: printable, no spaces, no quotes, no control.
_ID = re.compile(r"[0-9A-Za-z._:@+~-]{1,128}")
_TENANT = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,63}")
# As a JSON schema says it, which also finds parts of a text.
ID_PATTERN, TENANT_PATTERN = f"^{_ID.pattern}$", f"^{_TENANT.pattern}$"
_METADATA_CHARACTERS = 16_384
_BEST_QUALITY = 100.0
_LEAST_LENGTH = 1e-6  # of a vector that is compared by its direction


def checked_tenant(tenant: str) -> str:
    """The tenant's name.

    Raises:
        MienError: it is not 1 to 64 letters, digits, dots, hyphens and underscores.
    """
    if not _TENANT.fullmatch(tenant):
        raise MienError(
            Errors.INVALID_REQUEST,
            "A tenant is 1 to 64 letters, digits, '.', '-' and '_'.",
            field="tenant",
        )
    return tenant


def is_id(value: str) -> bool:
    """Whether something of that id could have been stored."""
    return _ID.fullmatch(value) is not None


def checked_id(value: str, field: str) -> str:
    """An id of the caller's.

    Raises:
        MienError: it is not 1 to 128 letters, digits and a few signs.
    """
    if not is_id(value):
        raise MienError(
            Errors.INVALID_REQUEST,
            "An id is 1 to 128 letters, digits, '.', ':', '@', '+', '~', '-' and '_'.",
            field=field,
        )
    return value


def checked_limit(limit: int, field: str = "limit", most: int = MAX_PAGE) -> int:
    """How many rows are asked for.

    Raises:
        MienError: it is not 1 to ``most``.
    """
    if not 1 <= limit <= most:
        raise MienError(Errors.INVALID_REQUEST, f"It is 1 to {most}.", field=field)
    return limit


def checked_subject(subject: Subject) -> Subject:
    """A subject that may be stored.

    Raises:
        MienError: its id is not valid, or its name and metadata are too long.
    """
    checked_id(subject.id, "subject_id")
    pairs = subject.metadata.items()
    if len(subject.name) + sum(len(k) + len(v) for k, v in pairs) > _METADATA_CHARACTERS:
        raise MienError(
            Errors.INVALID_REQUEST,
            f"Name and metadata have at most {_METADATA_CHARACTERS} characters together.",
            field="metadata",
        )
    return subject


def checked_template(template: Template | NewTemplate) -> Vector:
    """The vector of a template, ready to be stored.

    Raises:
        MienError: vector, quality, confidence or count are not valid.
    """
    if not 0.0 <= template.quality <= _BEST_QUALITY:
        raise MienError(Errors.TEMPLATE_INVALID, "Qualities are 0 to 100.", field="quality")
    if template.pictures < 1:
        raise MienError(
            Errors.TEMPLATE_INVALID, "A template is made of 1 picture or more.", field="pictures"
        )
    if isinstance(template, Template) and not -1.0 <= template.confidence <= 1.0:
        raise MienError(Errors.TEMPLATE_INVALID, "Confidences are -1 to 1.", field="confidence")
    vector: Vector = checked_vectors(template.space, np.asarray(template.vector)[None])[0]
    return vector


def checked_vectors(space: Space, vectors: Vector) -> Vector:
    """Vectors as they are stored and compared: at unit length where the metric is cosine.

    Args:
        space: that they are said to be of.
        vectors: N x dimension.

    Returns:
        N x dimension float32, C-contiguous.

    Raises:
        MienError: wrong shape, not finite, or of no length where only the direction counts.
    """
    rows = np.ascontiguousarray(vectors, np.float32)
    if rows.ndim != 2 or rows.shape[1] != space.dimension:
        raise MienError(
            Errors.TEMPLATE_INVALID,
            f"Vectors of {space.reference} have {space.dimension} numbers.",
            field="vector",
        )
    if not np.isfinite(rows).all():
        raise MienError(Errors.TEMPLATE_INVALID, "Vectors must be finite.", field="vector")
    if space.metric == "euclidean":
        return rows
    lengths = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    if (lengths < _LEAST_LENGTH).any():
        raise MienError(
            Errors.TEMPLATE_INVALID, "A vector of length 0 has no direction.", field="vector"
        )
    unit: Vector = (rows / lengths).astype(np.float32)
    return unit


def check_space(space: Space, others: Iterable[Space]) -> None:
    """Refuses templates of another space than the one that they are to be stored in.

    Raises:
        MienError: one differs.
    """
    for other in others:
        if other != space:
            raise MienError(
                Errors.IDENTITY_MISMATCH,
                f"These are vectors of {other.reference}, not of {space.reference} with the same "
                "weights and preprocessing.",
                field="model",
            )


def cursor_of(last: str) -> str:
    """A cursor that goes on behind the row named ``last``."""
    return base64.urlsafe_b64encode(last.encode()).decode().rstrip("=")


def cursor_row(cursor: str) -> str:
    """The row that a cursor goes on behind; empty at the start.

    Raises:
        MienError: it is no cursor of ours.
    """
    try:
        return base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True).decode()
    except (binascii.Error, UnicodeError, ValueError) as error:
        raise MienError(
            Errors.INVALID_REQUEST, "It is no cursor of an earlier answer.", field="cursor"
        ) from error
