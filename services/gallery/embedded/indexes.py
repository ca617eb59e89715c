"""The search indexes of all tenants: loaded from the rows, and kept in step with every commit."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np

from services.gallery.embedded.index import VectorIndex
from services.gallery.embedded.rows import CollectionRow, Connection, Rows
from services.gallery.embedded.template_rows import Changes, Place, TemplateRows
from services.gallery.values import Candidate, Vector

Hits = list[list[tuple[int, float]]]
Told = list[list[Candidate]]
Look = Callable[[list[int]], dict[int, Candidate]]
"""Tells what is known of templates by number, those that are still there."""
_MOST_TOGETHER = 64  # probes in one scan


@dataclass
class _Waiting:
    queries: Vector
    limit: int
    answer: asyncio.Future[Told]


@dataclass
class _Line:
    """Searches that wait for one index, and whether somebody works on them."""

    waiting: list[_Waiting] = field(default_factory=list)
    busy: bool = False


class Indexes:
    """An index for each tenant and collection that is loaded.

    Args:
        exact: most vectors that an index scans as they are.
        look: called on a search thread, so that a search changes threads only once.
    """

    def __init__(self, exact: int, look: Look) -> None:
        self._exact, self._look = exact, look
        self._indexes: dict[Place, VectorIndex] = {}
        self._loaded: set[int] = set()
        self._lines: dict[Place, _Line] = {}
        workers = min(4, len(os.sched_getaffinity(0)))
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="gallery-search")

    def has(self, collection: int) -> bool:
        """Whether a collection is loaded."""
        return collection in self._loaded

    def load(
        self, connection: Connection, rows: Rows, templates: TemplateRows, collection: CollectionRow
    ) -> None:
        """Reads a collection from its rows. Only where nothing is written meanwhile."""
        if collection.number in self._loaded:
            return
        names = connection.execute(
            "SELECT n.name, COUNT(*) FROM templates t JOIN tenants n ON n.number = t.tenant "
            "WHERE t.collection = ? GROUP BY n.number",
            (collection.number,),
        ).fetchall()
        for name, count in names:
            tenant = rows.made_tenant(connection, name)
            vectors = np.empty((count, collection.space.dimension), np.float32)
            numbers: list[int] = []
            owners: list[int] = []
            for number, owner, vector in templates.vectors(connection, collection, tenant):
                vectors[len(numbers)] = vector
                numbers.append(number)
                owners.append(owner)
            place = (tenant.number, collection.number)
            self._indexes[place] = index = self._new(collection)
            index.fill(numbers, owners, vectors)
        self._loaded.add(collection.number)

    def drop(self, collection: int) -> None:
        """Forgets a collection; it is read again when it is next searched."""
        self._loaded.discard(collection)
        for place in [place for place in self._indexes if place[1] == collection]:
            del self._indexes[place]

    def follow(self, changes: Changes, collections: dict[int, CollectionRow]) -> dict[int, int]:
        """Does what a commit did; returns how many vectors went, by collection."""
        gone: dict[int, int] = {}
        for number in changes.dropped:
            self.drop(number)
        try:
            for place, added in changes.added.items():
                if place[1] in self._loaded and added:
                    if place not in self._indexes:
                        self._indexes[place] = self._new(collections[place[1]])
                    numbers, owners, vectors = zip(*added, strict=True)
                    self._indexes[place].add(numbers, owners, np.stack(vectors))
            for place, removed in changes.removed.items():
                index = self._indexes.get(place)
                if index is not None:
                    gone[place[1]] = gone.get(place[1], 0) + index.remove(removed)
        except BaseException:
            # The rows are committed; an index that cannot follow is read from them anew.
            for _, collection in {*changes.added, *changes.removed}:
                self.drop(collection)
            raise
        return gone

    def count_of(self, subject: int) -> int:
        """How many vectors of a subject are in any index."""
        return sum(index.count_of(subject) for index in list(self._indexes.values()))

    def holds(self, number: int) -> bool:
        """Whether a template's vector is in any index."""
        return any(number in index for index in list(self._indexes.values()))

    def count(self, place: Place) -> int:
        """How many vectors an index has."""
        index = self._indexes.get(place)
        return 0 if index is None else len(index)

    async def search(self, place: Place, queries: Vector, limit: int) -> Told:
        """Searches an index; probes that come while one scan runs share the next."""
        waiting = _Waiting(queries, limit, asyncio.get_running_loop().create_future())
        line = self._lines.setdefault(place, _Line())
        line.waiting.append(waiting)
        if not line.busy:
            line.busy = True
            task = asyncio.create_task(self._work_off(place, line))
            task.add_done_callback(_finished)
        return await waiting.answer

    def close(self) -> None:
        """Waits for running searches."""
        self._pool.shutdown()

    async def _work_off(self, place: Place, line: _Line) -> None:
        try:
            while line.waiting:
                together = _taken(line.waiting)
                if together:
                    await self._search_together(place, together)
        finally:
            line.busy = False
            if self._lines.get(place) is line:
                del self._lines[place]

    async def _search_together(self, place: Place, together: list[_Waiting]) -> None:
        queries = np.concatenate([one.queries for one in together])
        limit = max(one.limit for one in together)

        try:
            loop = asyncio.get_running_loop()
            told = await loop.run_in_executor(self._pool, self._told, place, queries, limit)
        except Exception as error:
            for one in together:
                if not one.answer.done():
                    one.answer.set_exception(error)
            raise
        start = 0
        for one in together:
            end = start + len(one.queries)
            if not one.answer.done():  # its caller may have gone
                one.answer.set_result([row[: one.limit] for row in told[start:end]])
            start = end

    def _told(self, place: Place, queries: Vector, limit: int) -> Told:
        index = self._indexes.get(place)
        if index is None:
            return [[] for _ in queries]
        hits: Hits = []
        for start in range(0, len(queries), _MOST_TOGETHER):
            hits += index.search(queries[start : start + _MOST_TOGETHER], limit)
        known = self._look(list({number for row in hits for number, _ in row}))
        # What was deleted since the scan has no row, and is not told.
        return [
            [replace(known[number], similarity=value) for number, value in row if number in known]
            for row in hits
        ]

    def _new(self, collection: CollectionRow) -> VectorIndex:
        space = collection.space
        return VectorIndex(space.dimension, space.metric, self._exact)


def _taken(waiting: list[_Waiting]) -> list[_Waiting]:
    """The searches for one scan, first come first; those whose caller has gone are left out."""
    together: list[_Waiting] = []
    probes = 0
    while waiting and (not together or probes + len(waiting[0].queries) <= _MOST_TOGETHER):
        one = waiting.pop(0)
        if not one.answer.done():
            together.append(one)
            probes += len(one.queries)
    return together


def _finished(task: asyncio.Task[None]) -> None:
    if not task.cancelled():
        task.exception()  # each caller has been told; asyncio need not say so again
