"""Locks by name, among the requests of one gateway and among gateways."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from services.shared.locks import LocalLocks, Locks, SharedLocks
from services.shared.redis_link import RedisLink
from tests.integration.redis_server import RedisServer
from tests.integration.shared.conftest import settings_with


class Counter:
    """How many are inside at once."""

    def __init__(self) -> None:
        self.inside = self.most = self.done = 0

    async def visit(self, locks: Locks, *name: str, seconds: float = 0.01) -> None:
        async with locks.hold(*name):
            self.inside += 1
            self.most = max(self.most, self.inside)
            await asyncio.sleep(seconds)
            self.inside -= 1
            self.done += 1


def link_to(server: RedisServer) -> RedisLink:
    return RedisLink(settings_with(server).redis)


@pytest.fixture(params=["one gateway", "two gateways"])
async def pair(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Locks, Locks]]:
    """The locks of two requests."""
    if request.param == "one gateway":
        alone = LocalLocks()
        yield alone, alone
        return
    server = request.getfixturevalue("redis_server")
    links = [link_to(server), link_to(server)]
    yield SharedLocks(links[0]), SharedLocks(links[1])
    for link in links:
        await link.close()


async def test_one_at_a_time_is_inside(pair: tuple[Locks, Locks]) -> None:
    counter = Counter()
    await asyncio.gather(*(counter.visit(pair[turn % 2], "a", "b") for turn in range(20)))
    assert (counter.most, counter.done) == (1, 20)


async def test_other_names_do_not_wait(pair: tuple[Locks, Locks]) -> None:
    counter = Counter()
    names = [("a", "b"), ("a", "c"), ("ab",), ("a",)]
    visits = (counter.visit(pair[turn % 2], *name, seconds=0.3) for turn, name in enumerate(names))
    await asyncio.gather(*visits)
    assert counter.most == len(names)


async def test_a_lock_is_free_after_a_failure_and_after_a_caller_has_gone(
    pair: tuple[Locks, Locks],
) -> None:
    one, other = pair
    with pytest.raises(ValueError, match="inside"):
        async with one.hold("a"):
            raise ValueError("inside")
    gone = asyncio.create_task(Counter().visit(other, "a", seconds=60))
    await asyncio.sleep(0.1)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    async with asyncio.timeout(1), one.hold("a"):
        pass


async def test_a_long_holder_keeps_its_lock_and_a_dead_one_loses_it(
    redis_server: RedisServer,
) -> None:
    one = SharedLocks(link_to(redis_server), lease_seconds=0.3)
    other = SharedLocks(link_to(redis_server), lease_seconds=0.3)
    counter = Counter()
    await asyncio.gather(
        counter.visit(one, "a", seconds=1.0), counter.visit(other, "a"), counter.visit(other, "a")
    )
    assert counter.most == 1
    with redis_server.client() as client:
        async with one.hold("b"):
            (left,) = client.keys()
        client.set(left, b"of a process that was killed", px=300)
    start = asyncio.get_running_loop().time()
    await counter.visit(other, "b")
    assert 0.2 < asyncio.get_running_loop().time() - start < 1


async def test_names_cannot_be_read_in_redis(redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        async with SharedLocks(link_to(redis_server)).hold("enrolment", "acme", "visit-17"):
            keys = client.keys()
    assert len(keys) == 1
    assert not any(word in keys[0] for word in (b"acme", b"visit", b"enrolment"))


async def test_requests_of_one_gateway_stay_apart_while_redis_dies_and_returns(
    mortal_redis: RedisServer,
) -> None:
    locks, counter = SharedLocks(link_to(mortal_redis)), Counter()

    async def visitors() -> None:
        for _ in range(30):
            await counter.visit(locks, "a", seconds=0.005)

    at_work = [asyncio.create_task(visitors()) for _ in range(4)]
    await asyncio.sleep(0.1)
    mortal_redis.kill()
    await asyncio.sleep(0.4)
    mortal_redis.start()
    await asyncio.gather(*at_work)
    assert (counter.most, counter.done) == (1, 120)
    other = SharedLocks(link_to(mortal_redis))
    await asyncio.sleep(0.3)  # Redis is asked again, and keeps gateways apart
    await asyncio.gather(*(counter.visit(one, "a", seconds=0.05) for one in (locks, other) * 3))
    assert counter.most == 1
