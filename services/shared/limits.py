"""Where the counters of rate limits are kept: in Redis for all gateways, or in this process."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from limits.aio.storage import (
    MemoryStorage,
    MovingWindowSupport,
    RedisStorage,
    SlidingWindowCounterSupport,
    Storage,
)

from services.settings import Settings
from services.shared.redis_link import AwayError, RedisLink

_Result = TypeVar("_Result")
_USE = "limit"
_PREFIX = "mien:limit"


def limits_storage(settings: Settings, link: RedisLink | None = None) -> Storage:
    """The storage for the strategies of `limits`.

    Args:
        settings: where Redis is, if anywhere.
        link: a way to it that is there already.

    Returns:
        One that never fails for Redis: while it is away, each gateway counts by itself.
    """
    if link is None and settings.redis.url.get_secret_value():
        link = RedisLink(settings.redis)
    return MemoryStorage() if link is None else SharedStorage(link)


class _InRedis(RedisStorage):
    """The library's own, over a client that is there already; named by no address."""

    STORAGE_SCHEME = None  # type: ignore[assignment]

    def __init__(self, link: RedisLink) -> None:
        super().__init__(
            "async+redis://",
            implementation="redispy",
            key_prefix=_PREFIX,
            connection_pool=link.client.connection_pool,  # type: ignore[arg-type]
        )


class SharedStorage(Storage, MovingWindowSupport, SlidingWindowCounterSupport):
    """Counts in Redis, and in this process while Redis is away.

    Args:
        link: to Redis.
    """

    STORAGE_SCHEME = None

    def __init__(self, link: RedisLink) -> None:
        super().__init__()
        self._link = link
        self._redis = _InRedis(link)
        self._memory = MemoryStorage()

    @property
    def base_exceptions(self) -> type[Exception] | tuple[type[Exception], ...]:
        """What it may raise: nothing of its own."""
        return ()

    async def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """See `Storage.incr`."""
        return await self._either(
            lambda: self._redis.incr(key, expiry, amount),
            lambda: self._memory.incr(key, expiry, amount),
        )

    async def get(self, key: str) -> int:
        """See `Storage.get`."""
        return await self._either(lambda: self._redis.get(key), lambda: self._memory.get(key))

    async def get_expiry(self, key: str) -> float:
        """See `Storage.get_expiry`."""
        return await self._either(
            lambda: self._redis.get_expiry(key), lambda: self._memory.get_expiry(key)
        )

    async def check(self) -> bool:
        """See `Storage.check`: true, since it counts with Redis or without."""
        return True

    async def reset(self) -> int | None:
        """See `Storage.reset`."""
        await self._memory.reset()
        return await self._either(self._redis.reset, self._memory.reset)

    async def clear(self, key: str) -> None:
        """See `Storage.clear`."""
        await self._memory.clear(key)
        await self._either(lambda: self._redis.clear(key), lambda: self._memory.clear(key))

    async def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """See `MovingWindowSupport.acquire_entry`."""
        return await self._either(
            lambda: self._redis.acquire_entry(key, limit, expiry, amount),
            lambda: self._memory.acquire_entry(key, limit, expiry, amount),
        )

    async def get_moving_window(self, key: str, limit: int, expiry: int) -> tuple[float, int]:
        """See `MovingWindowSupport.get_moving_window`."""
        return await self._either(
            lambda: self._redis.get_moving_window(key, limit, expiry),
            lambda: self._memory.get_moving_window(key, limit, expiry),
        )

    async def acquire_sliding_window_entry(
        self, key: str, limit: int, expiry: int, amount: int = 1
    ) -> bool:
        """See `SlidingWindowCounterSupport.acquire_sliding_window_entry`."""
        return await self._either(
            lambda: self._redis.acquire_sliding_window_entry(key, limit, expiry, amount),
            lambda: self._memory.acquire_sliding_window_entry(key, limit, expiry, amount),
        )

    async def get_sliding_window(self, key: str, expiry: int) -> tuple[int, float, int, float]:
        """See `SlidingWindowCounterSupport.get_sliding_window`."""
        return await self._either(
            lambda: self._redis.get_sliding_window(key, expiry),
            lambda: self._memory.get_sliding_window(key, expiry),
        )

    async def clear_sliding_window(self, key: str, expiry: int) -> None:
        """See `SlidingWindowCounterSupport.clear_sliding_window`."""
        await self._memory.clear_sliding_window(key, expiry)
        await self._either(
            lambda: self._redis.clear_sliding_window(key, expiry),
            lambda: self._memory.clear_sliding_window(key, expiry),
        )

    async def _either(
        self,
        there: Callable[[], Awaitable[_Result]],
        here: Callable[[], Awaitable[_Result]],
    ) -> _Result:
        try:
            return await self._link.ask(_USE, lambda _: there())
        except AwayError:
            return await here()
