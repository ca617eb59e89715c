"""Milvus through its client, off the event loop, its failures told as Mien's own.

The client tries again by itself, for a minute and more if it is let: here it has a time for each
call. While Milvus does not answer, a circuit breaker lets calls fail at once, so that requests do
not wait for it one after the other.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

import grpc
from pymilvus import MilvusClient, MilvusException

from services.breaker import Breaker, BreakerOpenError
from services.errors import Errors, MienError
from services.gallery.values import Vector
from services.settings import GallerySettings
from services.telemetry import get_logger

_log = get_logger(__name__)
_Result = TypeVar("_Result")
Row = dict[str, Any]

_THREADS = 8
_AT_ONCE = 1000  # rows in one message: a few MB with their vectors
_IDS_AT_ONCE = 500  # ids in one filter
_MOST_ROWS = 16_384  # Milvus answers with no more
_NOT_CONNECTED = 2  # the client's code
_NOT_LOADED = 101  # its code: the collection is there, and not in memory


class AwayError(MienError):
    """Milvus does not answer; what was asked may or may not have been done."""

    def __init__(self) -> None:
        super().__init__(Errors.GALLERY_UNAVAILABLE, "Milvus does not answer.", retry_after=1.0)


class Connection:
    """A client of one Milvus.

    Args:
        client: connected.
        settings: how long it may take.
    """

    def __init__(self, client: MilvusClient, settings: GallerySettings) -> None:
        self.client = client
        self._seconds = settings.timeout_seconds
        # What Milvus refuses is an answer; what a caller who has gone asked says nothing of it.
        self._breaker = Breaker(
            "milvus",
            settings.retry_seconds,
            [asyncio.CancelledError, (MienError, _is_answer)],
        )
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="gallery-milvus")

    @classmethod
    async def open(cls, uri: str, settings: GallerySettings) -> Connection:
        """Connects.

        Raises:
            MienError: nobody answers, or the file of Milvus Lite cannot be used.
        """
        # Its own log quotes filters, in which ids stand; what matters is told here.
        logging.getLogger("pymilvus").setLevel(logging.CRITICAL)
        token, seconds = settings.token.get_secret_value(), settings.timeout_seconds
        made = await asyncio.to_thread(
            _told, lambda: MilvusClient(uri, token=token, timeout=seconds)
        )
        return cls(made, settings)

    async def run(self, work: Callable[[MilvusClient], _Result], name: str = "") -> _Result:
        """Runs work on a thread.

        Args:
            work: what is asked.
            name: of the collection that it needs in memory, which a Milvus that was started anew
                may not have.

        Raises:
            MienError: Milvus refused, failed, did not answer in time, or has just not done so.
        """
        loop = asyncio.get_running_loop()
        try:
            async with self._breaker.guard():
                return await loop.run_in_executor(
                    self._pool, lambda: _told(lambda: self._loaded(name, work))
                )
        except BreakerOpenError as error:
            raise AwayError from error

    def _loaded(self, name: str, work: Callable[[MilvusClient], _Result]) -> _Result:
        try:
            return work(self.client)
        except MilvusException as error:
            if not name or error.code != _NOT_LOADED:
                raise
        self.client.load_collection(name, timeout=self._seconds)
        return work(self.client)

    async def query(self, name: str, where: str, fields: Sequence[str]) -> list[Row]:
        """Rows of a collection that a filter takes, in no order."""
        return await self.run(
            lambda client: list(
                client.query(
                    name,
                    filter=where,
                    output_fields=[*fields],
                    limit=_MOST_ROWS,
                    timeout=self._seconds,
                )
            ),
            name,
        )

    async def in_order(self, name: str, where: str, fields: Sequence[str], limit: int) -> list[Row]:
        """The first rows by primary key: iterators alone promise an order."""

        def work(client: MilvusClient) -> list[Row]:
            rows: list[Row] = []
            steps = client.query_iterator(
                name,
                batch_size=limit,
                limit=limit,
                filter=where,
                output_fields=[*fields],
                timeout=self._seconds,
            )
            try:
                while len(rows) < limit and (some := steps.next()):
                    rows += some
            finally:
                steps.close()
            return rows[:limit]

        return await self.run(work, name)

    async def count(self, name: str, where: str) -> int:
        """How many rows a filter takes."""
        rows = await self.query_count(name, where)
        return int(rows[0]["count(*)"]) if rows else 0

    async def query_count(self, name: str, where: str) -> list[Row]:
        """The answer to a count; Milvus takes no limit there."""
        return await self.run(
            lambda client: list(
                client.query(name, filter=where, output_fields=["count(*)"], timeout=self._seconds)
            ),
            name,
        )

    async def put(self, name: str, rows: Sequence[Row]) -> None:
        """Stores rows in place of those of the same primary key."""
        for start in range(0, len(rows), _AT_ONCE):
            some = [*rows[start : start + _AT_ONCE]]
            await self.run(partial(self._upsert, name, some), name)

    def _upsert(self, name: str, rows: list[Row], client: MilvusClient) -> object:
        return client.upsert(name, rows, timeout=self._seconds)

    async def delete(self, name: str, where: str) -> None:
        """Deletes the rows that a filter takes."""
        await self.run(
            lambda client: client.delete(name, filter=where, timeout=self._seconds), name
        )

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
                timeout=self._seconds,
            ),
            name,
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
    except (MilvusException, grpc.RpcError, OSError) as error:
        code = getattr(error, "code", None)
        _log.error("Milvus failed", error=type(error).__name__, code=_shown(code))
        if _is_away(error, code):
            raise AwayError from error
        raise MienError(
            Errors.GALLERY_UNAVAILABLE, "Milvus does not answer as it should.", retry_after=1.0
        ) from error


def _is_away(error: Exception, code: object) -> bool:
    """Whether nobody answered: the client then tells a status of gRPC, or a code of its own."""
    if not isinstance(error, MilvusException):
        return True
    return isinstance(code, grpc.StatusCode) or code == _NOT_CONNECTED


def _is_answer(error: BaseException) -> bool:
    return not isinstance(error, AwayError)


def _shown(code: object) -> str:
    return code.name if isinstance(code, grpc.StatusCode) else str(code)
