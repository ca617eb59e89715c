"""What is fuzzed by coverage: functions of bytes, each with the errors that it may raise."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from starlette.requests import Request
from starlette.types import Message

from models.zoo.adding import completed_embedder, completed_map, kind_of
from models.zoo.errors import ZooError
from services.errors import MienError
from services.gallery import Space
from services.gateway.given_vectors import GivenVector, stacked, vector_of_bytes
from services.gateway.imaging import ImageError, ImageLimits, decode
from services.gateway.rest.bulk_rows import JSON_LINES, ZIP, read_rows
from services.gateway.rest.gallery_inputs import read_enrolment, read_identify, read_subject
from services.gateway.rest.inputs import read_detect, read_verify
from services.settings import Settings

_LIMITS = ImageLimits(max_bytes=1 << 20, max_pixels=250_000)
_SETTINGS = Settings()
_FORM = "multipart/form-data; boundary=edge"
_READERS: list[Callable[[Request], Awaitable[object]]] = [
    lambda request: read_verify(request, 2),
    read_detect,
    read_subject,
    lambda request: read_enrolment(request, "anna", 2),
    lambda request: read_identify(request, 2),
]


@dataclass(frozen=True)
class Target:
    """Something that reads bytes of strangers.

    Attributes:
        run: reads them.
        fair: errors that are its documented answer.
    """

    run: Callable[[bytes], object]
    fair: tuple[type[Exception], ...]


def _picture(data: bytes) -> object:
    pixels = decode(data, _LIMITS).pixels
    assert pixels.ndim == 3
    assert pixels.shape[2] == 3
    assert pixels.shape[0] * pixels.shape[1] <= _LIMITS.max_pixels
    return pixels


def _body(data: bytes) -> object:
    """The first byte chooses the reader and whether it is given a form or JSON."""
    choice, body = (data or b"\0")[0], data[1:]
    kind = _FORM if choice & 1 else "application/json"
    return asyncio.run(_read(_READERS[(choice >> 1) % len(_READERS)], kind, body))


def _rows(data: bytes) -> object:
    """The first byte chooses between lines and an archive."""
    choice, body = (data or b"\0")[0], data[1:]

    async def every(request: Request) -> int:
        read = await read_rows(request, _SETTINGS)
        return sum([1 async for _ in read.rows])

    return asyncio.run(_read(every, ZIP if choice & 1 else JSON_LINES, body))


async def _read(reader: Callable[[Request], Awaitable[object]], kind: str, body: bytes) -> object:
    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    headers = [(b"content-type", kind.encode())]
    scope = {
        "type": "http", "method": "POST", "path": "/", "headers": headers, "query_string": b"",
    }  # fmt: skip
    return await reader(Request(scope, receive))


_FOLDER = tempfile.TemporaryDirectory(prefix="mien-fuzz-")


def _card(data: bytes) -> object:
    """A card that an operator adds; its weights are only hashed."""
    card, weights = Path(_FOLDER.name, "card.json"), Path(_FOLDER.name, "model.onnx")
    card.write_bytes(data)
    weights.write_bytes(b"weights")
    complete = completed_map if kind_of(card) == "map" else completed_embedder
    return complete(weights, card)


def _vector(data: bytes) -> object:
    """Of a gallery whose vectors have two numbers."""
    given = GivenVector(vector_of_bytes(data, "vector"), "m", "1", "w", "p")
    row = stacked([given], Space("m", "1", "w", "p", 2), ["vector"])
    assert abs(float(np.linalg.norm(row)) - 1.0) < 1e-3
    return row


TARGETS = {
    "pictures": Target(_picture, (ImageError,)),
    "bodies": Target(_body, (MienError,)),
    "rows": Target(_rows, (MienError,)),
    "vectors": Target(_vector, (MienError,)),
    "cards": Target(_card, (ZooError,)),
}
