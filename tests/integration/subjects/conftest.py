"""A tenant for each test, and vectors of people who do not exist."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.integration.harness import Mien
from tests.integration.subjects.people import Identity


@pytest.fixture
def tenant() -> str:
    return f"tenant-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def api(mien: Mien, tenant: str) -> Iterator[httpx.Client]:
    """REST for a tenant that nobody else uses."""
    with mien.client() as client:
        client.headers["x-mien-tenant"] = tenant
        yield client


@pytest.fixture
def light_api(weightless_mien: Mien, tenant: str) -> Iterator[httpx.Client]:
    """The same, of a Mien whose embedder needs no weights."""
    with weightless_mien.client() as client:
        client.headers["x-mien-tenant"] = tenant
        yield client


@pytest.fixture(scope="session")
def identity(mien: Mien) -> Identity:
    """Identity of the vectors that this Mien's model makes."""
    return _identity(mien)


@pytest.fixture(scope="session")
def light_identity(weightless_mien: Mien) -> Identity:
    return _identity(weightless_mien)


def _identity(mien: Mien) -> Identity:
    with mien.client() as client:
        told: dict[str, Any] = client.get("/v1/models").json()["models"][0]["identity"]
    return told
