"""Search in the embedded gallery: the nearest by the index, told by their rows."""

from __future__ import annotations

from services.gallery.embedded.core import Core
from services.gallery.embedded.database import Connection
from services.gallery.embedded.rows import CollectionRow
from services.gallery.embedded.template_rows import Place
from services.gallery.values import Candidate, Space, Vector


async def search(
    core: Core, tenant: str, space: Space, vectors: Vector, limit: int
) -> list[list[Candidate]]:
    """See `Gallery.search`; ``vectors`` as they are compared."""
    place = await _loaded(core, tenant, space)
    if place is None or len(vectors) == 0:
        return [[] for _ in vectors]
    return await core.indexes.search(place, vectors, limit)


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
