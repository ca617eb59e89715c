"""The cache of seen faces: in one gateway, and in Redis for several."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator

import numpy as np
import pytest

from services.errors import MienError
from services.settings import Settings, SettingsError
from services.shared import FaceCache, Shared
from services.shared.sealing import TenantKey
from tests.integration.redis_server import RedisServer
from tests.integration.shared.conftest import settings_with

_MASTER = base64.b64encode(bytes(range(32))).decode()
_OTHER_MASTER = base64.b64encode(bytes(32)).decode()
_VECTOR = np.random.default_rng(1).standard_normal(512).astype("<f4").tobytes()


def settings_of(server: RedisServer | None, seconds: float = 60, key: str = _MASTER) -> Settings:
    cache, gallery = {"seconds": seconds, "entries": 3}, {"master_key": key}
    return settings_with(server, cache=cache, gallery=gallery)


def cache_in(server: RedisServer | None, seconds: float = 60, key: str = _MASTER) -> FaceCache:
    return Shared.open(settings_of(server, seconds, key)).faces


async def found(cache: FaceCache, *about: bytes, tenant: str = "acme") -> list[bytes | None]:
    return (await cache.find(tenant, about)).values


async def keep(cache: FaceCache, about: bytes, value: bytes, tenant: str = "acme") -> None:
    await cache.keep(tenant, {about: value}, (await cache.find(tenant, [about])).epoch)


@pytest.fixture(params=["in one gateway", "in Redis"])
async def cache(request: pytest.FixtureRequest) -> AsyncIterator[FaceCache]:
    server = request.getfixturevalue("redis_server") if request.param == "in Redis" else None
    shared = Shared.open(settings_of(server, seconds=0.6))
    yield shared.faces
    await shared.close()


async def test_what_was_kept_is_found_until_its_time_is_over(cache: FaceCache) -> None:
    assert await found(cache, b"a", b"b") == [None, None]
    await keep(cache, b"a", _VECTOR)
    await keep(cache, b"b", b"second")
    assert await found(cache, b"b", b"c", b"a") == [b"second", None, _VECTOR]
    await asyncio.sleep(0.8)
    assert await found(cache, b"a", b"b") == [None, None]


async def test_no_tenant_finds_what_another_has_sent(cache: FaceCache) -> None:
    await keep(cache, b"a", b"own", tenant="acme")
    assert await found(cache, b"a", tenant="other") == [None]
    await keep(cache, b"a", b"others", tenant="other")
    assert await found(cache, b"a", tenant="acme") == [b"own"]


async def test_a_deletion_leaves_nothing_of_its_tenant_and_all_of_the_others(
    cache: FaceCache,
) -> None:
    for about in (b"a", b"b"):
        await keep(cache, about, b"own")
    await keep(cache, b"a", b"others", tenant="other")
    assert await cache.forget("acme") == 0
    assert await found(cache, b"a", b"b") == [None, None]
    assert await found(cache, b"a", tenant="other") == [b"others"]
    await keep(cache, b"a", b"new")
    assert await found(cache, b"a") == [b"new"]


async def test_work_that_began_before_a_deletion_is_not_kept_after_it(cache: FaceCache) -> None:
    before = (await cache.find("acme", [b"a"])).epoch
    await cache.forget("acme")
    await cache.keep("acme", {b"a": b"late"}, before)
    assert await found(cache, b"a") == [None]


async def test_one_gateway_keeps_no_more_than_it_may_and_nothing_past_its_time() -> None:
    cache = cache_in(None, seconds=0.3)
    for number in range(4):
        await keep(cache, bytes([number]), b"seen")
        await found(cache, bytes([0]))  # is used all the time, so others make room
    assert await found(cache, *(bytes([n]) for n in range(4))) == [b"seen", None, b"seen", b"seen"]
    store = cache._store
    await asyncio.sleep(0.5)
    assert not store._entries  # type: ignore[union-attr]  # ended, though nobody asked


async def test_two_gateways_share_what_they_have_seen(redis_server: RedisServer) -> None:
    one, other = cache_in(redis_server), cache_in(redis_server)
    await keep(one, b"a", _VECTOR)
    assert await found(other, b"a") == [_VECTOR]
    assert await other.forget("acme") == 0
    assert await found(one, b"a") == [None]


async def test_nothing_in_redis_can_be_read_without_the_key(redis_server: RedisServer) -> None:
    about = b"the picture's digest, in the clear"
    await keep(cache_in(redis_server), about, b"the measurements " + _VECTOR, tenant="acme-corp")
    with redis_server.client() as client:
        held = {key: client.get(key) for key in client.scan_iter()}
    assert len(held) == 1
    for key, value in held.items():
        assert isinstance(value, bytes)
        for plain in (b"acme-corp", about, about.hex().encode(), b"measurements"):
            assert plain not in key
            assert plain not in value
        assert all(_VECTOR[at : at + 8] not in value for at in range(0, len(_VECTOR), 8))


async def test_another_master_key_finds_nothing_and_opens_nothing(
    redis_server: RedisServer,
) -> None:
    await keep(cache_in(redis_server), b"a", b"seen")
    assert await found(cache_in(redis_server, key=_OTHER_MASTER), b"a") == [None]
    own, wrong = TenantKey(bytes(range(32)), "acme"), TenantKey(bytes(32), "acme")
    sealed = own.seal(b"seen", own.name(b"a"))
    assert own.open(sealed, own.name(b"a")) == b"seen"
    for key, name in ((wrong, own.name(b"a")), (own, own.name(b"b"))):
        with pytest.raises(MienError):
            key.open(sealed, name)
    with pytest.raises(MienError):
        TenantKey(bytes(range(32)), "other").open(sealed, own.name(b"a"))


async def test_an_entry_that_was_moved_or_changed_is_a_miss(redis_server: RedisServer) -> None:
    cache = cache_in(redis_server)
    await keep(cache, b"a", b"of a")
    with redis_server.client() as client:
        (first,) = client.keys()
        sealed = client.get(first)
        await keep(cache, b"b", b"of b")
        (second,) = set(client.keys()) - {first}
        client.set(second, sealed)
        client.set(first, b"short")
    assert await found(cache, b"a", b"b") == [None, None]


async def test_without_redis_everything_is_a_miss_and_deletions_are_made_up_for(
    mortal_redis: RedisServer,
) -> None:
    cache = cache_in(mortal_redis)
    await keep(cache, b"a", b"seen")
    mortal_redis.freeze()
    assert await found(cache, b"a") == [None]
    await keep(cache, b"a", b"seen again")
    assert await cache.forget("acme") == 1  # nobody could look
    mortal_redis.thaw()
    await asyncio.sleep(0.3)
    assert await found(cache, b"a") == [None]
    with mortal_redis.client() as client:
        assert not client.keys("mien:face:*")
    assert await cache.forget("acme") == 0
    await keep(cache, b"a", b"new")
    assert await found(cache, b"a") == [b"new"]


async def test_the_cache_survives_that_redis_is_killed_under_load(
    mortal_redis: RedisServer,
) -> None:
    cache, wrong = cache_in(mortal_redis), 0

    async def caller(number: int) -> int:
        wrong = 0
        for turn in range(60):
            about = bytes([turn % 5, number % 2])
            value = (await cache.find("acme", [about])).values[0]
            wrong += value not in (None, b"of " + about)
            await keep(cache, about, b"of " + about)
        return wrong

    callers = [asyncio.create_task(caller(number)) for number in range(6)]
    await asyncio.sleep(0.1)
    mortal_redis.kill()
    await asyncio.sleep(0.3)
    mortal_redis.start()
    wrong = sum(await asyncio.gather(*callers))
    assert wrong == 0
    await asyncio.sleep(0.3)
    await keep(cache, b"a", b"back")
    assert await found(cache, b"a") == [b"back"]


async def test_it_is_off_unless_it_is_given_a_time() -> None:
    cache = Shared.open(settings_with(None)).faces
    assert not cache.is_on
    await keep(cache, b"a", b"seen")
    assert await found(cache, b"a") == [None]


def test_a_cluster_refuses_a_cache_that_a_deletion_could_not_reach() -> None:
    cluster = {"cache": {"seconds": 60}, "gallery": {"uri": "http://milvus:19530"}}
    with pytest.raises(SettingsError, match="MIEN_CACHE__SECONDS"):
        Shared.open(Settings.model_validate(cluster))
