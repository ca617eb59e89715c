"""Rate limits: counted by all gateways together, by each alone while Redis is away."""

from __future__ import annotations

import asyncio
import time

import limits
import pytest
from limits.aio.strategies import MovingWindowRateLimiter
from pydantic import ValidationError

from services.settings import RedisSettings
from services.shared import limits_storage
from tests.integration.redis_server import RedisServer, skip_without_redis
from tests.integration.shared.conftest import settings_with

_TWO = limits.parse("2/minute")


def _limiter(server: RedisServer | None) -> MovingWindowRateLimiter:
    return MovingWindowRateLimiter(limits_storage(settings_with(server)))


async def test_two_gateways_count_together(redis_server: RedisServer) -> None:
    one, other = _limiter(redis_server), _limiter(redis_server)
    assert await one.hit(_TWO, "key")
    assert await other.hit(_TWO, "key")
    assert not await one.hit(_TWO, "key")
    assert not await other.hit(_TWO, "key")
    assert await other.hit(_TWO, "another key")
    assert (await one.get_window_stats(_TWO, "key")).remaining == 0


async def test_one_gateway_counts_without_redis() -> None:
    alone = _limiter(None)
    assert [await alone.hit(_TWO, "key") for _ in range(3)] == [True, True, False]


async def test_a_limit_holds_while_redis_is_away_and_is_shared_again_after(
    mortal_redis: RedisServer,
) -> None:
    one, other = _limiter(mortal_redis), _limiter(mortal_redis)
    assert await one.hit(_TWO, "key")
    mortal_redis.kill()
    assert [await one.hit(_TWO, "key") for _ in range(3)] == [True, True, False]
    assert await other.hit(_TWO, "key")  # it counts by itself now
    mortal_redis.start()
    await asyncio.sleep(0.3)
    hits = [await one.hit(_TWO, "key"), await other.hit(_TWO, "key"), await one.hit(_TWO, "key")]
    assert hits == [True, True, False]


async def test_a_redis_that_hangs_slows_one_call_only(mortal_redis: RedisServer) -> None:
    limiter = _limiter(mortal_redis)
    assert await limiter.hit(_TWO, "key")
    mortal_redis.freeze()
    try:
        waits = []
        for _ in range(5):
            start = time.perf_counter()
            await limiter.hit(_TWO, "key")
            waits.append(time.perf_counter() - start)
    finally:
        mortal_redis.thaw()
    assert waits[0] < 0.3
    assert sorted(waits[1:])[2] < 0.05  # most of them: the machine may be busy once


async def test_redis_asks_for_its_password() -> None:
    skip_without_redis()
    with RedisServer("s3cret") as server:
        one, other = _limiter(server), _limiter(server)
        assert [await a.hit(_TWO, "key") for a in (one, other, one)] == [True, True, False]


def test_an_address_of_another_kind_is_refused_without_being_told() -> None:
    with pytest.raises(ValidationError, match="redis://") as told:
        RedisSettings.model_validate({"url": "http://:s3cret@redis"})
    assert "s3cret" not in str(told.value.errors(include_input=False))
