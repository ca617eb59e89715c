"""Redis for the tests of what gateways share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from services.settings import Settings
from tests.integration.redis_server import RedisServer, skip_without_redis


@pytest.fixture(scope="session")
def _one_redis() -> Iterator[RedisServer]:
    skip_without_redis()
    with RedisServer() as server:
        yield server


@pytest.fixture
def redis_server(_one_redis: RedisServer) -> RedisServer:
    """A Redis that is up and empty; the same for all tests."""
    with _one_redis.client() as client:
        client.flushall()
    return _one_redis


@pytest.fixture
def mortal_redis() -> Iterator[RedisServer]:
    """A Redis of the test's own, to be killed."""
    skip_without_redis()
    with RedisServer() as server:
        yield server


def settings_with(server: RedisServer | None, **groups: Any) -> Settings:
    """Settings that share by a Redis, or by none."""
    redis = {} if server is None else {"url": server.url, "retry_seconds": 0.2}
    return Settings.model_validate({"redis": redis, **groups})
