"""Collections of templates in Milvus, and the alias that says which one is live."""

from __future__ import annotations

import json
import time
from dataclasses import asdict

from pymilvus import MilvusClient

from services.errors import Errors, MienError
from services.gallery.milvus.connection import Connection
from services.gallery.milvus.tables import LIVE, SPACES, make_collection, plain_row
from services.gallery.values import Collection, Space
from services.shared.news import News

_FRESH_SECONDS = 1.0  # how long another process's switch may go unseen where no news tells of it


class Spaces:
    """Which spaces there are.

    Args:
        connection: to Milvus.
        news: of what any process changes here.
    """

    def __init__(self, connection: Connection, news: News) -> None:
        self._connection, self._news = connection, news
        self._mark = ""
        self._live: Space | None = None
        self._asked = float("-inf")

    async def all(self) -> list[Space]:
        """All spaces, oldest first."""
        rows = await self._connection.query(SPACES, 'pk != ""', ("sealed", "updated"))
        rows.sort(key=lambda row: float(row["updated"]))
        return [Space(**json.loads(row["sealed"])) for row in rows]

    async def known(self, space: Space) -> Space:
        """The space, if it has a collection.

        Raises:
            MienError: it has none.
        """
        if space not in await self.all():
            raise MienError(
                Errors.COLLECTION_UNKNOWN, f"The gallery has no templates of {space.reference}."
            )
        return space

    async def live(self, *, now: bool = False) -> Space | None:
        """The live space; with ``now`` as the cluster says at this moment."""
        mark = await self._news.mark()
        if now or mark != self._mark or time.monotonic() - self._asked > _FRESH_SECONDS:
            found = None
            for space in await self.all():
                if await self._is_live(space):
                    found = space
            self._live, self._asked, self._mark = found, time.monotonic(), mark
        return self._live

    async def edition(self) -> str:
        """See `Gallery.edition`."""
        return await self._news.mark()

    async def collections(self) -> list[Collection]:
        """See `Gallery.collections`."""
        live = await self.live(now=True)
        found = []
        for space in await self.all():
            count = await self._connection.count(space.key, "sequence > 0")
            mapped = await self._connection.count(space.key, 'map != ""')
            last = await self._last(space) if count else 0
            found.append(Collection(space, space == live, count, mapped, last))
        return sorted(found, key=lambda one: not one.live)

    async def create(self, space: Space) -> None:
        """See `Gallery.create_collection`."""
        spaces = await self.all()
        if space not in spaces:
            await make_collection(self._connection, space)
            await self._connection.put(SPACES, [plain_row(space.key, asdict(space))])
        if await self.live(now=True) is None:
            await self._connection.run(lambda client: client.create_alias(space.key, LIVE))
            await self.live(now=True)
        await self._news.tell()

    async def drop(self, space: Space) -> int:
        """See `Gallery.drop_collection`."""
        await self.known(space)
        if await self.live(now=True) == space:
            raise MienError(Errors.COLLECTION_LIVE, f"{space.reference} is live.")
        count = await self._connection.count(space.key, "sequence > 0")
        await self._connection.delete(SPACES, f"pk == {json.dumps(space.key)}")
        await self._connection.run(lambda client: client.drop_collection(space.key))
        await self._news.tell()
        return count

    async def switch(self, space: Space, caught_up: int | None) -> Space | None:
        """See `Gallery.switch`."""
        await self.known(space)
        before = await self.live(now=True)
        newer = 0
        if before is not None and caught_up is not None:
            newer = await self._connection.count(before.key, f"sequence > {int(caught_up)}")
        if newer:
            raise MienError(Errors.MIGRATION_BEHIND, "The live version was written to since then.")
        if before is None:
            await self._connection.run(lambda client: client.create_alias(space.key, LIVE))
        else:
            await self._connection.run(lambda client: client.alter_alias(space.key, LIVE))
        await self._news.tell()
        await self.live(now=True)
        return before

    async def _is_live(self, space: Space) -> bool:
        def work(client: MilvusClient) -> bool:
            return LIVE in client.list_aliases(space.key).get("aliases", ())

        return await self._connection.run(work)

    async def _last(self, space: Space) -> int:
        """The highest sequence number: Milvus gives no maximum, so it is searched by halves."""
        low, high = 0, (1 << 63) - 1
        while low < high:
            middle = low + (high - low + 1) // 2
            if await self._connection.count(space.key, f"sequence >= {middle}"):
                low = middle
            else:
                high = middle - 1
        return low
