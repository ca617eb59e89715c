"""Locks by name: in this process, and through Redis among all gateways.

A lock here saves work and keeps checks apart; it never guards what would be lost without it. The
gallery's own transactions and idempotency keys do that.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
import uuid
import weakref
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

from redis.asyncio import Redis
from redis.asyncio.lock import Lock
from redis.exceptions import LockError

from services.shared.redis_link import AwayError, RedisLink

_USE = "lock"
_PREFIX = "mien:lock:"
_LEASE_SECONDS = 5.0  # after this, the locks of a gateway that was killed are free
_POLL_SECONDS = (0.01, 0.04)  # between two attempts, by chance, so that waiters do not march


class Locks(Protocol):
    """One holder at a time for each name."""

    def hold(self, *name: str) -> AbstractAsyncContextManager[None]:
        """Waits for a lock and holds it for a block of code.

        Args:
            name: its parts; none of them can be read from what is stored.
        """
        ...


class LocalLocks:
    """Locks among the requests of this process."""

    def __init__(self) -> None:
        self._locks: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()

    @asynccontextmanager
    async def hold(self, *name: str) -> AsyncIterator[None]:
        """See `Locks.hold`."""
        key = _key(name)
        lock = self._locks.get(key)
        if lock is None:
            lock = self._locks[key] = asyncio.Lock()
        async with lock:
            yield


class SharedLocks:
    """Locks among all gateways of one Redis; among the requests of this process while it is away.

    Args:
        link: to Redis.
        lease_seconds: after which the locks of a process that is gone are free.
    """

    def __init__(self, link: RedisLink, lease_seconds: float = _LEASE_SECONDS) -> None:
        self._link, self._seconds = link, lease_seconds
        self._here = LocalLocks()  # one request of each process asks Redis; the others wait here

    @asynccontextmanager
    async def hold(self, *name: str) -> AsyncIterator[None]:
        """See `Locks.hold`."""
        async with self._here.hold(*name):
            lease = _Lease(self._link.client, _PREFIX + _key(name), self._seconds)
            held = await self._acquired(lease)
            renewing = asyncio.create_task(self._renew(lease)) if held else None
            try:
                yield
            finally:
                if renewing is not None:
                    renewing.cancel()
                    await asyncio.gather(renewing, return_exceptions=True)
                    with contextlib.suppress(AwayError):  # it ends by itself then
                        await self._link.ask(_USE, lambda _: lease.give_up())

    async def _acquired(self, lease: _Lease) -> bool:
        """Waits for the lease; False if Redis is away."""
        try:
            while True:
                if await self._link.ask(_USE, lambda _: lease.take()):
                    return True
                await asyncio.sleep(random.uniform(*_POLL_SECONDS))  # noqa: S311 - no secret
        except AwayError:
            return False

    async def _renew(self, lease: _Lease) -> None:
        """Keeps the lease; one that a new Redis knows nothing of is taken again."""
        while True:
            await asyncio.sleep(self._seconds / 3)
            with contextlib.suppress(AwayError):
                await self._link.ask(_USE, lambda _: lease.renew())


class _Lease(Lock):
    """One holding of one lock, for the time that it is renewed for.

    Args:
        client: of Redis.
        key: of the lock.
        seconds: how long it lasts.
    """

    def __init__(self, client: Redis, key: str, seconds: float) -> None:
        super().__init__(client, key, timeout=seconds, thread_local=False)
        self._client, self._milliseconds = client, round(seconds * 1e3)
        self._token = uuid.uuid4().hex.encode()
        self.local.token = self._token

    async def take(self) -> bool:
        """Takes it if it is free, or its own: the answer to an earlier attempt may be lost."""
        held = await self._client.set(
            self.name, self._token, nx=True, get=True, px=self._milliseconds
        )
        return held in (None, self._token)

    async def renew(self) -> None:
        """Makes it last again from now; a Redis that has forgotten it is told again."""
        try:
            await self.reacquire()
        except LockError:
            await self.take()

    async def give_up(self) -> None:
        """Frees it, unless it is another's by now."""
        with contextlib.suppress(LockError):
            await self.do_release(self._token)


def _key(name: tuple[str, ...]) -> str:
    return hashlib.sha256("\x1f".join(name).encode()).hexdigest()
