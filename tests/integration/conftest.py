"""Pictures and clients that the tests of REST and gRPC share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.hostile import gradient
from tests.integration.harness import Mien
from tests.integration.pictures import jpeg, portrait, side_by_side
from tests.integration.tiny_service import Service, serving


@pytest.fixture(scope="session")
def rest(mien: Mien) -> Iterator[httpx.Client]:
    with mien.client() as client:
        yield client


@pytest.fixture(scope="session")
def light(weightless_mien: Mien) -> Iterator[httpx.Client]:
    with weightless_mien.client() as client:
        yield client


@pytest.fixture(scope="session")
def obama(portraits: Path) -> bytes:
    return jpeg(portrait(portraits, "obama.jpg"))


@pytest.fixture(scope="session")
def obama2(portraits: Path) -> bytes:
    return jpeg(portrait(portraits, "obama2.jpg"))


@pytest.fixture(scope="session")
def biden(portraits: Path) -> bytes:
    return jpeg(portrait(portraits, "biden.jpg"))


@pytest.fixture(scope="session")
def both(portraits: Path) -> bytes:
    """A small Biden on the left, a large Obama in the middle, nothing on the right."""
    small, large = portrait(portraits, "biden.jpg", 300), portrait(portraits, "obama2.jpg", 480)
    return jpeg(side_by_side(small, large, gradient(300, 300)))


@pytest.fixture(scope="session")
def weighing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Its model has learned weights; it draws faces."""
    with serving(tmp_path_factory.mktemp("weighing"), frontalize=True) as running:
        yield running


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Its model has neither weights nor a decoder; the service would draw."""
    home = tmp_path_factory.mktemp("plain")
    with serving(home, fusion=False, decoder=False, frontalize=True) as running:
        yield running
