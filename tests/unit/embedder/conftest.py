"""An embedder without a network."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from services.embedding.embedder import Embedder
from services.runtime.weightless_engine import WeightlessEngine
from tests.unit.embedder.samples import card


@pytest.fixture
def weightless() -> Iterator[Embedder]:
    embedder = Embedder(card(), WeightlessEngine())
    yield embedder
    embedder.close()
