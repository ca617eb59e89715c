"""Search in the embedded gallery: the nearest by the index, told by their rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from services.gallery.embedded.core import Core
from services.gallery.embedded.database import Connection
from services.gallery.embedded.rows import CollectionRow
from services.gallery.embedded.template_rows import Place
from services.gallery.values import Candidate, Space, Vector

_ROWS_AT_ONCE = 500  # SQLite takes more variables, but not in every build


async def search(
    core: Core, tenant: str, space: Space, vectors: Vector, limit: int
) -> list[list[Candidate]]:
    """See `Gallery.search`; ``vectors`` as they are compared."""
    place = await _loaded(core, tenant, space)
    if place is None or len(vectors) == 0:
        return [[] for _ in vectors]
    hits = await core.indexes.search(place, vectors, limit)
    numbers = list({number for row in hits for number, _ in row})
    known = await core.database.read(lambda connection: _rows(connection, numbers))
    # What was deleted since the scan has no row, and is not told.
    return [
        [replace(known[number], similarity=value) for number, value in row if number in known]
        for row in hits
    ]


async def searchable(core: Core, tenant: str, space: Space) -> int:
    """See `Gallery.searchable`."""
    place = await _loaded(core, tenant, space)
    return 0 if place is None else core.indexes.count(place)


async def _loaded(core: Core, tenant: str, space: Space) -> Place | None:
    """Where the index of a tenant is; None for a tenant that has nothing."""

    def work(connection: Connection) -> Place | None:
        collection = core.rows.collection(connection, space)
        owner = core.rows.tenant(connection, tenant)
        return None if owner is None else (owner.number, collection.number)

    place = core.places.get((tenant, space)) or await core.database.read(work)
    if place is not None:
        core.places[tenant, space] = place
        await core.load(CollectionRow(place[1], space))
    return place


def _rows(connection: Connection, numbers: Sequence[int]) -> dict[int, Candidate]:
    """What is told of templates that may be found, by number; the similarity is still 0."""
    known: dict[int, Candidate] = {}
    for start in range(0, len(numbers), _ROWS_AT_ONCE):
        some = numbers[start : start + _ROWS_AT_ONCE]
        marks = ", ".join("?" * len(some))
        rows = connection.execute(
            "SELECT t.number, s.id, t.id, t.map, t.confidence, t.quality "  # noqa: S608 - marks alone
            "FROM templates t JOIN subjects s ON s.number = t.subject "
            f"WHERE s.consent = 1 AND t.number IN ({marks})",
            some,
        )
        for number, subject, template, mapped_by, confidence, quality in rows:
            known[number] = Candidate(subject, template, 0.0, mapped_by, confidence, quality)
    return known
