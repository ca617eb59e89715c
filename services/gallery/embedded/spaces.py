"""Collections of the embedded gallery: made, dropped, switched."""

from __future__ import annotations

from services.errors import Errors, MienError
from services.gallery.embedded.core import Core
from services.gallery.embedded.database import Connection
from services.gallery.embedded.rows import CollectionRow
from services.gallery.embedded.template_rows import Changes
from services.gallery.values import Collection, Space


async def collections(core: Core) -> list[Collection]:
    """See `Gallery.collections`."""

    def work(connection: Connection) -> list[Collection]:
        live = core.rows.live(connection)
        found = []
        for one in core.rows.collections(connection):
            counts = connection.execute(
                "SELECT COUNT(*), COUNT(NULLIF(map, '')), COALESCE(MAX(number), 0) "
                "FROM templates WHERE collection = ?",
                (one.number,),
            ).fetchone()
            is_live = live is not None and live.number == one.number
            found.append(Collection(one.space, is_live, *counts))
        return sorted(found, key=lambda one: not one.live)

    return await core.database.read(work)


async def create(core: Core, space: Space) -> None:
    """See `Gallery.create_collection`."""

    def work(connection: Connection, changes: Changes) -> None:
        if space not in [one.space for one in core.rows.collections(connection)]:
            number = core.rows.add_collection(connection, space)
            connection.execute("INSERT OR IGNORE INTO live VALUES (1, ?)", (number,))
            core.indexes.load(connection, core.rows, core.templates, CollectionRow(number, space))
            changes.spaces = True

    await core.commit(work)


async def drop(core: Core, space: Space) -> int:
    """See `Gallery.drop_collection`."""

    def work(connection: Connection, changes: Changes) -> int:
        number = core.rows.collection(connection, space).number
        live = core.rows.live(connection)
        if live is not None and live.number == number:
            raise MienError(Errors.COLLECTION_LIVE, f"{space.reference} is live.")
        count = connection.execute("DELETE FROM templates WHERE collection = ?", (number,)).rowcount
        connection.execute("DELETE FROM collections WHERE number = ?", (number,))
        changes.dropped.append(number)
        changes.spaces = True
        return count

    count = await core.commit(work)
    await core.database.alone(core.database.empty_log)
    return count


async def switch(core: Core, space: Space, caught_up: int | None) -> Space | None:
    """See `Gallery.switch`."""

    def work(connection: Connection, changes: Changes) -> Space | None:
        target, before = core.rows.collection(connection, space), core.rows.live(connection)
        if before is not None and caught_up is not None:
            newer = connection.execute(
                "SELECT 1 FROM templates WHERE collection = ? AND number > ? LIMIT 1",
                (before.number, caught_up),
            ).fetchone()
            if newer is not None:
                raise MienError(
                    Errors.MIGRATION_BEHIND, "The live version was written to since then."
                )
        # Loaded before it is live, so that no caller has to wait for it.
        core.indexes.load(connection, core.rows, core.templates, target)
        connection.execute("INSERT OR REPLACE INTO live VALUES (1, ?)", (target.number,))
        changes.spaces = True
        return None if before is None else before.space

    return await core.commit(work)
