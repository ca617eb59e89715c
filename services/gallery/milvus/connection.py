"""Milvus through its client, off the event loop, its failures told as Mien's own."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from pymilvus import MilvusClient, MilvusException

from services.errors import Errors, MienError
from services.gallery.values import Vector
from services.telemetry import get_logger

_log = get_logger(__name__)
_Result = TypeVar("_Result")
Row = dict[str, Any]

_THREADS = 8
_AT_ONCE = 1000  # rows in one message: a few MB with their vectors
_IDS_AT_ONCE = 500  # ids in one filter
_MOST_ROWS = 16_384  # Milvus answers with no more


class Connection:
    """A client of one Milvus.

    Args:
        client: connected.
    """

    def __init__(self, client: MilvusClient) -> None:
        self.client = client
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="gallery-milvus")

    @classmethod
    async def open(cls, uri: str, token: str) -> Connection:
        """Connects.

        Raises:
            MienError: nobody answers, or the file of Milvus Lite cannot be used.
        """
        # Its own log quotes filters, in which ids stand; what matters is told here.
        logging.getLogger("pymilvus").setLevel(logging.CRITICAL)
        made = await asyncio.to_thread(_told, lambda: MilvusClient(uri, token=token))
        return cls(made)

    async def run(self, work: Callable[[MilvusClient], _Result]) -> _Result:
        """Runs work on a thread.

        Raises:
            MienError: Milvus refused or failed.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, lambda: _told(lambda: work(self.client)))

    async def query(self, name: str, where: str, fields: Sequence[str]) -> list[Row]:
        """Rows of a collection that a filter takes, in no order."""
        return await self.run(
            lambda client: list(
                client.query(name, filter=where, output_fields=[*fields], limit=_MOST_ROWS)
            )
        )

    async def in_order(self, name: str, where: str, fields: Sequence[str], limit: int) -> list[Row]:
        """The first rows by primary key: iterators alone promise an order."""

        def work(client: MilvusClient) -> list[Row]:
            rows: list[Row] = []
            steps = client.query_iterator(
                name, batch_size=limit, limit=limit, filter=where, output_fields=[*fields]
            )
            try:
                while len(rows) < limit and (some := steps.next()):
                    rows += some
            finally:
                steps.close()
            return rows[:limit]

        return await self.run(work)

    async def count(self, name: str, where: str) -> int:
        """How many rows a filter takes."""
        rows = await self.query_count(name, where)
        return int(rows[0]["count(*)"]) if rows else 0

    async def query_count(self, name: str, where: str) -> list[Row]:
        """The answer to a count; Milvus takes no limit there."""
        return await self.run(
            lambda client: list(client.query(name, filter=where, output_fields=["count(*)"]))
        )

    async def put(self, name: str, rows: Sequence[Row]) -> None:
        """Stores rows in place of those of the same primary key."""
        for start in range(0, len(rows), _AT_ONCE):
            some = [*rows[start : start + _AT_ONCE]]
            await self.run(lambda client, some=some: client.upsert(name, some))  # type: ignore[misc]

    async def delete(self, name: str, where: str) -> None:
        """Deletes the rows that a filter takes."""
        await self.run(lambda client: client.delete(name, filter=where))

    async def search(
        self, name: str, where: str, vectors: Vector, limit: int, fields: Sequence[str]
    ) -> list[list[Row]]:
        """For each vector the nearest rows, as Milvus tells them."""
        parameters = {"params": {"ef": max(256, 2 * limit)}}
        answers = await self.run(
            lambda client: client.search(
                name,
                data=[*vectors],
                filter=where,
                limit=limit,
                output_fields=[*fields],
                search_params=parameters,
            )
        )
        return [list(row) for row in answers]

    async def close(self) -> None:
        """Lets running calls finish and hangs up."""
        await asyncio.to_thread(self._pool.shutdown)
        await asyncio.to_thread(self.client.close)


def quoted(value: str) -> str:
    """A text inside a filter. Only ids and tenants come here, which hold no quotes."""
    return json.dumps(value)


def any_of(field: str, values: Iterable[str]) -> list[str]:
    """Filters that together take the rows whose field has one of the values."""
    given = sorted(set(values))
    return [
        f"{field} in {json.dumps(given[start : start + _IDS_AT_ONCE])}"
        for start in range(0, len(given), _IDS_AT_ONCE)
    ]


def _told(work: Callable[[], _Result]) -> _Result:
    try:
        return work()
    except (MilvusException, OSError) as error:
        code = getattr(error, "code", None)
        _log.error("Milvus failed", error=type(error).__name__, code=code)
        raise MienError(
            Errors.GALLERY_UNAVAILABLE, "Milvus does not answer as it should.", retry_after=1.0
        ) from error
