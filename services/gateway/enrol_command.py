"""What is to be enrolled, and how a repeated request is told from another."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from services.gateway.core import PictureInput
from services.gateway.given_vectors import GivenVector


@dataclass(frozen=True)
class EnrolCommand:
    """Pictures or vectors of one person.

    Attributes:
        subject_id: whose; the subject is made if it does not exist.
        pictures: of one person, fused to one template for each model.
        vectors: each a template; given in place of pictures.
        name: replaces the subject's name unless None.
        metadata: replaces the subject's metadata unless None.
        key: idempotency key, or empty.
        allow_duplicate: enrol even if another subject has this face.
        leave_out_poor: make the template of the good pictures; False refuses all for one poor one.
    """

    subject_id: str
    pictures: tuple[PictureInput, ...] = ()
    vectors: tuple[GivenVector, ...] = ()
    name: str | None = field(default=None, repr=False)
    metadata: Mapping[str, str] | None = field(default=None, repr=False)
    key: str = ""
    allow_duplicate: bool = False
    leave_out_poor: bool = False


def row_key(key: str, index: int, subject_id: str) -> str:
    """Idempotency key of one row, from that of the whole; empty if that is.

    Args:
        key: of the whole.
        index: of the row.
        subject_id: of the row.
    """
    return hashlib.sha256(f"{key}\n{index}\n{subject_id}".encode()).hexdigest() if key else ""


def fingerprint(command: EnrolCommand) -> str:
    """Tells two enrolments under one key apart; nothing of a face can be read from it."""
    about = {
        "subject": command.subject_id,
        "name": command.name,
        "metadata": None if command.metadata is None else dict(command.metadata),
        "choices": [[str(one.choice.selection), one.choice.index] for one in command.pictures],
        "vectors": [
            [one.model, one.version, one.weights_sha256, one.quality, one.pictures]
            for one in command.vectors
        ],
        "options": [command.allow_duplicate, command.leave_out_poor],
    }
    told = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for picture in command.pictures:
        told.update(hashlib.sha256(picture.data).digest())
    for vector in command.vectors:
        told.update(hashlib.sha256(vector.values.astype("<f4").tobytes()).digest())
    return told.hexdigest()
