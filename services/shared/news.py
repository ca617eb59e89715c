"""A mark that changes when something has changed that other gateways remember."""

from __future__ import annotations

import uuid
from typing import Protocol

from services.shared.redis_link import AwayError, RedisLink

_USE = "news"
_KEY = "mien:news:"
_KEPT_SECONDS = 24 * 3600  # its end is one change more


class News(Protocol):
    """Says whether what is remembered of something is still so."""

    async def mark(self) -> str:
        """The mark at this moment; takes less than a millisecond."""
        ...

    async def tell(self) -> None:
        """Changes the mark, after the thing itself has changed."""
        ...


class LocalNews:
    """Changes of this process only."""

    def __init__(self) -> None:
        self._changes = 0

    async def mark(self) -> str:
        """See `News.mark`."""
        return str(self._changes)

    async def tell(self) -> None:
        """See `News.tell`."""
        self._changes += 1


class SharedNews:
    """Changes of all processes of one Redis; of this process only while it is away.

    Args:
        link: to Redis.
        topic: what changes.
    """

    def __init__(self, link: RedisLink, topic: str) -> None:
        self._link, self._key = link, _KEY + topic
        self._own = LocalNews()

    async def mark(self) -> str:
        """See `News.mark`; another one when Redis goes and when it comes back."""
        own = await self._own.mark()
        try:
            told = await self._link.ask(_USE, lambda client: client.get(self._key))
        except AwayError:
            return f"{own}/away"
        return f"{own}/{told!r}"

    async def tell(self) -> None:
        """See `News.tell`."""
        await self._own.tell()
        try:
            # A Redis that has forgotten everything must not count up to a mark that is known.
            await self._link.ask(
                _USE, lambda client: client.set(self._key, uuid.uuid4().hex, ex=_KEPT_SECONDS)
            )
        except AwayError:
            return
