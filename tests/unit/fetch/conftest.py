"""The server of all tests of downloads."""

from collections.abc import Iterator

import pytest
import stamina

from tests.unit.fetch.origin import Index, Origin


@pytest.fixture
def origin() -> Iterator[Origin]:
    server = Origin()
    yield server
    server.close()


@pytest.fixture(autouse=True)
def _direct_and_impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No proxy between the test and its server, and no waiting between attempts."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")
    with stamina.set_testing(True, attempts=4):
        yield


@pytest.fixture(params=["json", "html"])
def index(origin: Origin, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Index:
    monkeypatch.setenv("PIP_INDEX_URL", f"{origin.url}/simple/")
    return Index(origin, request.param)
