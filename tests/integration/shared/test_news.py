"""News of changes, among gateways."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from services.gallery.open import open_gallery
from services.shared.news import LocalNews, SharedNews
from services.shared.redis_link import RedisLink
from tests.integration.gallery.made import NEW, OLD
from tests.integration.redis_server import RedisServer
from tests.integration.shared.conftest import settings_with


def news_by(server: RedisServer) -> SharedNews:
    return SharedNews(RedisLink(settings_with(server).redis), "collections")


async def test_a_change_is_seen_by_the_other_gateway_at_once(redis_server: RedisServer) -> None:
    one, other = news_by(redis_server), news_by(redis_server)
    before = await other.mark()
    assert await other.mark() == before
    await one.tell()
    after = await other.mark()
    assert after != before
    await other.tell()
    assert await one.mark() != await news_by(redis_server).mark() != before


async def test_a_mark_is_read_in_a_millisecond(redis_server: RedisServer) -> None:
    news = news_by(redis_server)
    waits = []
    for _ in range(200):
        start = time.perf_counter()
        await news.mark()
        waits.append(time.perf_counter() - start)
    assert min(waits) < 1e-3  # others may load the machine meanwhile


async def test_own_changes_are_seen_without_redis_and_its_return_is_a_change(
    mortal_redis: RedisServer,
) -> None:
    news = news_by(mortal_redis)
    before = await news.mark()
    mortal_redis.kill()
    away = await news.mark()
    await news.tell()
    assert len({before, away, await news.mark()}) == 3
    mortal_redis.start()
    await asyncio.sleep(0.3)
    assert await news.mark() not in {before, away}


async def test_one_gateway_sees_its_own_changes() -> None:
    news = LocalNews()
    before = await news.mark()
    assert await news.mark() == before
    await news.tell()
    assert await news.mark() != before


async def test_a_switch_by_one_gateway_is_seen_by_the_other_at_once(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    settings = settings_with(redis_server, home=tmp_path)
    uri = f"milvus-lite:{tmp_path / 'gallery.db'}"
    one, other = await open_gallery(settings, uri), await open_gallery(settings, uri)
    for space in (OLD, NEW):
        await one.create_collection(space)
    assert await other.live() == OLD
    edition = await other.edition()
    await one.switch(NEW)
    assert await other.live() == NEW
    assert await other.edition() != edition
    await other.drop_collection(OLD)
    assert await one.edition() != edition
    for gallery in (one, other):
        await gallery.close()
