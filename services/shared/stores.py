"""Where sealed entries of a cache lie: in this process, or in Redis for all gateways.

Every entry belongs to an owner, ends by itself, and all of an owner's can be dropped at once. An
owner's epoch changes with that, so that work which began before a drop stores nothing after it.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from services.shared.redis_link import AwayError, RedisLink

_USE = "cache"
_PREFIX = "mien:face:"
_EPOCH_SECONDS = 3600  # longer than any request that began before a drop
_SCANNED = 1000

# Stores entries unless the owner's were dropped since they were looked for.
_PUT = """
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
for i = 2, #KEYS do redis.call('SET', KEYS[i], ARGV[i + 1], 'PX', ARGV[2]) end
return 1
"""


@dataclass(frozen=True)
class Found:
    """What lies there.

    Attributes:
        values: one for each name; None where there is none.
        epoch: of the owner; None if nothing can be stored now.
    """

    values: list[bytes | None]
    epoch: bytes | None


class Store(Protocol):
    """Bytes by owner and name, for a while."""

    async def get(self, owner: str, names: Sequence[str]) -> Found:
        """Looks for entries."""
        ...

    async def put(self, owner: str, entries: Mapping[str, bytes], epoch: bytes | None) -> None:
        """Stores entries, if the owner's epoch is still the one that `get` gave."""
        ...

    async def drop(self, owner: str) -> int:
        """Deletes all of an owner's entries, and looks again.

        Returns:
            How many are left: 0, or 1 if nobody could look; they go as soon as somebody can.
        """
        ...


class MemoryStore:
    """Entries of this process.

    Args:
        seconds: how long an entry lasts.
        most: entries; the one that was used longest ago makes room.
    """

    def __init__(self, seconds: float, most: int) -> None:
        self._seconds, self._most = seconds, most
        self._entries: OrderedDict[tuple[str, str], tuple[float, bytes]] = OrderedDict()
        self._epochs: dict[str, bytes] = {}
        self._ending: asyncio.TimerHandle | None = None

    async def get(self, owner: str, names: Sequence[str]) -> Found:
        """See `Store.get`."""
        return Found([self._one((owner, name)) for name in names], self._epochs.get(owner, b""))

    async def put(self, owner: str, entries: Mapping[str, bytes], epoch: bytes | None) -> None:
        """See `Store.put`."""
        if epoch != self._epochs.get(owner, b""):
            return
        for name, value in entries.items():
            self._entries[owner, name] = (time.monotonic() + self._seconds, value)
            self._entries.move_to_end((owner, name))
        while len(self._entries) > self._most:
            self._entries.popitem(last=False)
        if self._entries and self._ending is None:
            self._end_later(self._seconds)

    async def drop(self, owner: str) -> int:
        """See `Store.drop`."""
        self._epochs[owner] = uuid.uuid4().bytes
        for key in [key for key in self._entries if key[0] == owner]:
            del self._entries[key]
        return sum(key[0] == owner for key in self._entries)

    def _one(self, key: tuple[str, str]) -> bytes | None:
        ends, value = self._entries.get(key, (0.0, b""))
        if time.monotonic() >= ends:
            self._entries.pop(key, None)
            return None
        self._entries.move_to_end(key)
        return value

    def _end_later(self, seconds: float) -> None:
        self._ending = asyncio.get_running_loop().call_later(seconds, self._end_old)

    def _end_old(self) -> None:
        """Deletes what has ended, though nobody asks for it any more."""
        self._ending, now = None, time.monotonic()
        for key in [key for key, (ends, _) in self._entries.items() if now >= ends]:
            del self._entries[key]
        if self._entries:
            self._end_later(min(ends for ends, _ in self._entries.values()) - now)


class RedisStore:
    """Entries in Redis.

    Args:
        link: to Redis.
        seconds: how long an entry lasts.
    """

    def __init__(self, link: RedisLink, seconds: float) -> None:
        self._link = link
        self._milliseconds = max(round(seconds * 1e3), 1)
        self._put = link.client.register_script(_PUT)
        self._owed: set[str] = set()  # owners whose entries are to be dropped once Redis is back

    async def get(self, owner: str, names: Sequence[str]) -> Found:
        """See `Store.get`; nothing is found while Redis is away."""
        nothing = Found([None] * len(names), None)
        if owner in self._owed and await self.drop(owner):
            return nothing
        keys = [_epoch(owner), *(_key(owner, name) for name in names)]
        try:
            epoch, *values = await self._link.ask(_USE, lambda client: client.mget(keys))
        except AwayError:
            return nothing
        return Found([*map(_bytes, values)], _bytes(epoch) or b"")

    async def put(self, owner: str, entries: Mapping[str, bytes], epoch: bytes | None) -> None:
        """See `Store.put`; nothing is stored while Redis is away."""
        if epoch is None or not entries:
            return
        keys = [_epoch(owner), *(_key(owner, name) for name in entries)]
        values: list[bytes | int] = [epoch, self._milliseconds, *entries.values()]
        try:
            await self._link.ask(_USE, lambda _: self._put(keys=keys, args=values))
        except AwayError:
            return

    async def drop(self, owner: str) -> int:
        """See `Store.drop`."""
        try:
            await self._link.ask(
                _USE,
                lambda client: client.set(
                    _epoch(owner), uuid.uuid4().hex.encode(), ex=_EPOCH_SECONDS
                ),
            )
            await self._visit(owner, delete=True)
            left = await self._visit(owner, delete=False)
        except AwayError:
            self._owed.add(owner)
            return 1
        self._owed.discard(owner)
        return left

    async def _visit(self, owner: str, *, delete: bool) -> int:
        """Goes through all that Redis holds of an owner; a step at a time, for others wait."""
        cursor, seen = 0, 0
        while True:
            cursor, keys = await self._link.ask(
                _USE,
                lambda client, at=cursor: client.scan(  # type: ignore[misc]
                    at, match=_key(owner, "*"), count=_SCANNED
                ),
            )
            seen += len(keys)
            if keys and delete:
                await self._link.ask(_USE, lambda client, keys=keys: client.unlink(*keys))  # type: ignore[misc]
            if cursor == 0:
                return seen


def _key(owner: str, name: str) -> str:
    return f"{_PREFIX}{{{owner}}}:{name}"


def _epoch(owner: str) -> str:
    return f"mien:epoch:{{{owner}}}"


def _bytes(answer: bytes | str | None) -> bytes | None:
    """An answer as it comes: the client decodes none."""
    return answer.encode() if isinstance(answer, str) else answer
