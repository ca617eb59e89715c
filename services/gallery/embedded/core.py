"""What the parts of the embedded gallery share: database, rows, indexes, and a commit for all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from services.errors import Errors, MienError
from services.gallery.embedded.database import Connection, Database
from services.gallery.embedded.indexes import Indexes
from services.gallery.embedded.rows import CollectionRow, Rows
from services.gallery.embedded.template_rows import Changes, Place, TemplateRows, told_of
from services.gallery.embedded.wrapping import wrappers
from services.gallery.values import Candidate, Space
from services.settings import GallerySettings

_Result = TypeVar("_Result")
Work = Callable[[Connection, Changes], _Result]


class Core:
    """An open database with its indexes.

    Args:
        path: of the database.
        settings: keys and sizes.

    Raises:
        MienError: it cannot be opened, or not with this master key.
    """

    def __init__(self, path: Path, settings: GallerySettings) -> None:
        masters = wrappers(settings, path)
        self.settings = settings
        self.database = Database(path)
        self.indexes = Indexes(settings.exact_templates, self._told_of)
        self.live: Space | None = None
        self.collections: dict[int, CollectionRow] = {}
        self.places: dict[tuple[str, Space], Place] = {}  # found already; forgotten with spaces
        self._masters = masters
        self.edition = 0  # counts changes of the collections

    async def open(self) -> None:
        """Finds the key that fits and loads the live collection."""
        self.rows = await self.database.write(self._fitting)
        self.templates = TemplateRows(self.rows)
        await self.database.alone(self._load)

    async def commit(self, work: Work[_Result]) -> _Result:
        """Runs work in a transaction, and brings search in step before anyone is told."""
        result, _ = await self.commit_and_count(work)
        return result

    async def commit_and_count(self, work: Work[_Result]) -> tuple[_Result, dict[int, int]]:
        """As `commit`; gives besides how many vectors left search, by collection."""

        def both() -> tuple[_Result, dict[int, int]]:
            changes = Changes()
            result = self.database.transaction(lambda connection: work(connection, changes))
            gone = self.indexes.follow(changes, self.collections)
            if changes.spaces:
                self.database.transaction(self._note_collections)
                self.edition += 1
            return result, gone

        return await self.database.alone(both)

    async def load(self, collection: CollectionRow) -> None:
        """Reads a collection into memory if it is not there, while nothing is written."""
        if not self.indexes.has(collection.number):
            await self.database.alone(
                lambda: self.database.transaction(
                    lambda connection: self.indexes.load(
                        connection, self.rows, self.templates, collection
                    )
                )
            )

    async def close(self) -> None:
        """Waits for what is at work."""
        await asyncio.to_thread(self.indexes.close)  # first: searches read rows
        await self.database.close()

    def _told_of(self, numbers: list[int]) -> dict[int, Candidate]:
        return self.database.snapshot(lambda connection: told_of(connection, numbers))

    def _fitting(self, connection: Connection) -> Rows:
        failure: MienError | None = None
        for master in self._masters:
            rows = Rows(master)
            try:
                rows.check(connection)
            except MienError as error:
                failure = error
            else:
                return rows
        raise failure or MienError(Errors.GALLERY_UNAVAILABLE, "There is no master key.")

    def _load(self) -> None:
        def work(connection: Connection) -> None:
            self._note_collections(connection)
            live = self.rows.live(connection)
            if live is not None:
                self.indexes.load(connection, self.rows, self.templates, live)

        self.database.transaction(work)

    def _note_collections(self, connection: Connection) -> None:
        self.collections = {one.number: one for one in self.rows.collections(connection)}
        self.places.clear()
        live = self.rows.live(connection)
        self.live = None if live is None else live.space
