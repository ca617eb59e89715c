"""Subjects of the embedded gallery."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from services.errors import Errors, MienError
from services.gallery.checks import cursor_of
from services.gallery.embedded.core import Core
from services.gallery.embedded.database import Connection
from services.gallery.embedded.rows import TenantRow
from services.gallery.embedded.template_rows import Changes
from services.gallery.values import Page, Subject, Template


async def put(core: Core, tenant: str, subject: Subject, *, new: bool) -> Subject:
    """See `Gallery.put_subject`."""

    def work(connection: Connection, changes: Changes) -> Subject:
        owner = core.rows.made_tenant(connection, tenant)
        if new and core.rows.subject(connection, owner, subject.id) is not None:
            raise MienError(Errors.SUBJECT_EXISTS, "There is such a subject already.")
        return _stored(core, connection, changes, owner, subject)

    return await core.commit(work)


async def put_all(core: Core, tenant: str, subjects: Sequence[Subject]) -> None:
    """See `Gallery.put_subjects`."""

    def work(connection: Connection, changes: Changes) -> None:
        owner = core.rows.made_tenant(connection, tenant)
        for subject in subjects:
            _stored(core, connection, changes, owner, subject)

    await core.commit(work)


async def set_consent(core: Core, tenant: str, subject_id: str, *, given: bool) -> Subject:
    """See `Gallery.set_consent`."""

    def work(connection: Connection, changes: Changes) -> Subject:
        owner = core.rows.tenant(connection, tenant)
        found = None if owner is None else core.rows.subject(connection, owner, subject_id)
        if owner is None or found is None:
            raise MienError(Errors.SUBJECT_UNKNOWN, "There is no such subject.")
        changed = dataclasses.replace(found[1], consent=given, updated=0.0)
        return _stored(core, connection, changes, owner, changed)

    return await core.commit(work)


async def get(core: Core, tenant: str, subject_id: str) -> Subject | None:
    """See `Gallery.subject`."""

    def work(connection: Connection) -> Subject | None:
        owner = core.rows.tenant(connection, tenant)
        found = None if owner is None else core.rows.subject(connection, owner, subject_id)
        return None if found is None else found[1]

    return await core.database.read(work)


async def page(core: Core, tenant: str, after: str, limit: int) -> Page[Subject]:
    """See `Gallery.subjects`; ``after`` is the id that the page goes on behind."""

    def work(connection: Connection) -> list[Subject]:
        owner = core.rows.tenant(connection, tenant)
        return [] if owner is None else core.rows.subjects(connection, owner, after, limit + 1)

    found = await core.database.read(work)
    shown = tuple(found[:limit])
    return Page(shown, cursor_of(shown[-1].id) if len(found) > limit else "")


async def templates(core: Core, tenant: str, subject_id: str) -> list[Template]:
    """See `Gallery.templates`."""

    def work(connection: Connection) -> list[Template]:
        owner = core.rows.tenant(connection, tenant)
        found = None if owner is None else core.rows.subject(connection, owner, subject_id)
        if found is None:
            return []
        spaces = {one.number: one.space for one in core.rows.collections(connection)}
        return core.templates.of_subject(connection, found[0], spaces)

    return await core.database.read(work)


async def keys(core: Core, tenant: str, subject_id: str) -> list[str]:
    """See `Gallery.idempotency_keys`."""

    def work(connection: Connection) -> list[str]:
        found = connection.execute(
            "SELECT i.key FROM idempotency i JOIN subjects s ON s.number = i.subject "
            "JOIN tenants n ON n.number = i.tenant WHERE n.name = ? AND s.id = ? ORDER BY i.key",
            (tenant, subject_id),
        )
        return [key for (key,) in found]

    return await core.database.read(work)


def _stored(
    core: Core, connection: Connection, changes: Changes, owner: TenantRow, subject: Subject
) -> Subject:
    """Stores a subject; where consent changes, its templates leave search or come back."""
    before = core.rows.subject(connection, owner, subject.id)
    number = core.rows.put_subject(connection, owner, subject)
    had = True if before is None else before[1].consent
    if had != subject.consent:
        for collection in core.rows.collections(connection):
            at = (owner.number, collection.number)
            if subject.consent:
                shown = core.templates.vectors(connection, collection, owner, number)
                changes.added[at] += shown
            else:
                rows = connection.execute(
                    "SELECT number FROM templates WHERE subject = ? AND collection = ?",
                    (number, collection.number),
                )
                changes.removed[at] += [row for (row,) in rows]
    stored = core.rows.subject(connection, owner, subject.id)
    assert stored is not None  # noqa: S101 - written just now
    return stored[1]
