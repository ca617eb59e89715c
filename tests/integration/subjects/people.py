"""People who do not exist, as vectors and requests."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray

Identity = dict[str, Any]
Vector = NDArray[np.float32]
DIMENSION = 128


def axis(number: int) -> Vector:
    """A person at a right angle to all others."""
    made = np.zeros(DIMENSION, np.float32)
    made[number] = 1.0
    return made


def like(*parts: tuple[float, int]) -> Vector:
    """A unit vector with these cosines to the people of these numbers, and the rest apart."""
    made = np.zeros(DIMENSION, np.float32)
    for cosine, number in parts:
        made[number] = cosine
    made[-1] = np.sqrt(1.0 - float(made @ made))
    return made


def given(vector: Vector, identity: Identity, **fields: Any) -> dict[str, Any]:
    """A vector as JSON takes it."""
    values = base64.b64encode(vector.astype("<f4").tobytes()).decode()
    return {"model": identity, "values": values, **fields}


def enrol_vectors(
    api: httpx.Client,
    subject: str,
    vectors: Sequence[Vector],
    identity: Identity,
    **fields: Any,
) -> httpx.Response:
    body = {"vectors": [given(one, identity) for one in vectors], **fields}
    return api.post(f"/v1/subjects/{subject}/templates", json=body)


def enrolled(api: httpx.Client, subject: str, vector: Vector, identity: Identity) -> str:
    """Enrols one vector; gives the template's id."""
    response = enrol_vectors(api, subject, [vector], identity, allow_duplicate=True)
    assert response.status_code == 201, response.text
    (template_id,) = response.json()["template_ids"]
    return str(template_id)


def pictures(*files: bytes) -> list[tuple[str, tuple[str, bytes]]]:
    return [("picture", (f"{index}.jpg", data)) for index, data in enumerate(files)]


def identified(api: httpx.Client, vector: Vector, identity: Identity, **fields: Any) -> Any:
    """The identification of one vector."""
    body = {"vectors": [given(vector, identity)], **fields}
    response = api.post("/v1/identify", json=body)
    assert response.status_code == 200, response.text
    return response.json()["vectors"][0]
