"""Copies a gallery into another one, whatever the two are kept in; safe to repeat."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from services.errors import Errors, MienError
from services.gallery.contract import Gallery
from services.gallery.values import Space

_PAGE = 500


@dataclass
class Copied:
    """What came over.

    Attributes:
        tenants: how many.
        subjects: of all tenants.
        templates: of all spaces.
        spaces: collections.
    """

    tenants: int = 0
    subjects: int = 0
    templates: int = 0
    spaces: int = 0


async def copy_gallery(
    source: Gallery, target: Gallery, advance: Callable[[int], None] = lambda _: None
) -> Copied:
    """Copies collections, subjects, templates and the live version; nothing is deleted.

    Subjects come before templates, so that each template finds its own; in the target, what has the
    same id is replaced. Idempotency keys and jobs stay behind. The source should not be written to
    meanwhile: who is deleted there after having been copied stays in the target.

    Args:
        source: read from.
        target: written to.
        advance: told how many templates have come over since the last time.

    Raises:
        MienError: either gallery fails, or another version is live in a target that is not empty.
    """
    live = await source.live()
    if live is None:
        raise MienError(Errors.GALLERY_EMPTY, "There is nothing to copy.")
    there = await target.live()
    if there not in (None, live):
        raise MienError(
            Errors.IDENTITY_MISMATCH,
            f"{there.reference if there else ''} is live in the target, {live.reference} in the "
            "source.",
        )
    copied = Copied()
    for tenant in await source.tenants():
        copied.tenants += 1
        copied.subjects += await _copy_subjects(source, target, tenant)
    # The live one comes first, and so becomes live in a target that is empty.
    for collection in await source.collections():
        await target.create_collection(collection.space)
        copied.spaces += 1
        copied.templates += await _copy_templates(source, target, collection.space, advance)
    return copied


async def _copy_subjects(source: Gallery, target: Gallery, tenant: str) -> int:
    count, cursor = 0, ""
    while True:
        page = await source.subjects(tenant, cursor, _PAGE)
        if page.rows:
            await target.put_subjects(tenant, page.rows)
        count += len(page.rows)
        cursor = page.cursor
        if not cursor:
            return count


async def _copy_templates(
    source: Gallery, target: Gallery, space: Space, advance: Callable[[int], None]
) -> int:
    count, after = 0, 0
    while rows := await source.scan(space, after, _PAGE):
        await target.write(space, rows)
        count += len(rows)
        advance(len(rows))
        after = rows[-1].sequence
    return count
