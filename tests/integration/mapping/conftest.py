"""A mapping service with three tiny maps: real engine, real gRPC."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from services.mapping import MappingServer
from tests.integration.mapping.asking import MAX_BATCH, Stub
from tests.integration.mapping.tiny_mapping import (
    SOURCE,
    TARGET,
    add_map,
    end,
    loaded,
    serving,
    stub_of,
    threshold,
)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("maps")
    add_map(
        folder,
        thresholds=[
            threshold("map|T", 1e-3, 0.5), threshold("T|map", 1e-3, 0.4),
            threshold("map|T", 1e-2, 0.3),
        ],
        confidence={"bins": [], "gap": 0.02, "rank_correlation": None, "data": "made up"},
    )  # fmt: skip
    add_map(folder, "other-map", source=end("older", SOURCE, "c"))
    add_map(folder, "far-map", target=end("newest", TARGET, "d"))
    return folder


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[MappingServer]:
    maps = loaded(home, "tiny-map", "other-map", "far-map")
    with serving(maps, max_batch=MAX_BATCH) as running:
        yield running


@pytest.fixture(scope="module")
def stub(server: MappingServer) -> Iterator[Stub]:
    with stub_of(server) as made:
        yield made
