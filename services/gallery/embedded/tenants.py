"""Deletion of a tenant: its keys are destroyed, so that no copy of its rows opens any more."""

from __future__ import annotations

import time

from services.errors import Errors, MienError
from services.gallery.embedded.core import Core
from services.gallery.embedded.database import Connection
from services.gallery.embedded.template_rows import Changes
from services.gallery.values import DeletionReport

_Gone = tuple[int, dict[int, int], dict[str, int]]
"""The tenant's number, templates by collection, and rows by table."""

_TABLES = ("subjects", "templates", "idempotency", "keys")


async def delete_tenant(core: Core, name: str) -> DeletionReport:
    """Deletes a tenant with all that is stored of it, and looks again.

    Backups and copies of the file keep rows that nothing opens, unless they hold its wrapped keys
    too and the master key that these were wrapped with.

    Raises:
        MienError: there is no such tenant.
    """

    def work(
        connection: Connection, changes: Changes
    ) -> tuple[int, dict[int, int], dict[str, int]]:
        row = connection.execute("SELECT number FROM tenants WHERE name = ?", (name,)).fetchone()
        if row is None:
            raise MienError(Errors.INVALID_REQUEST, "There is no such tenant.", field="tenant")
        (number,) = row
        gone = connection.execute(
            "DELETE FROM templates WHERE tenant = ? RETURNING number, collection", (number,)
        ).fetchall()
        templates: dict[int, int] = {}
        for template, collection in gone:
            templates[collection] = templates.get(collection, 0) + 1
            changes.removed[number, collection].append(template)
        counts = {
            table: connection.execute(
                f"DELETE FROM {table} WHERE tenant = ?",  # noqa: S608 - one of three names from here
                (number,),
            ).rowcount
            for table in ("idempotency", "subjects", "keys")
        }
        connection.execute("DELETE FROM tenants WHERE number = ?", (number,))
        changes.spaces = True  # the number may be another tenant's next: nothing remembers it
        return number, templates, counts

    (number, templates, counts), searchable = await core.commit_and_count(work)
    core.rows.forget()
    overwritten = await core.database.alone(core.database.empty_log)

    def left(connection: Connection) -> dict[str, int]:
        return {
            table: connection.execute(
                f"SELECT COUNT(*) FROM {table} WHERE tenant = ?",  # noqa: S608 - likewise
                (number,),
            ).fetchone()[0]
            for table in _TABLES
        }

    remaining = await core.database.read(left)
    return DeletionReport(
        subject_id="",
        subjects=counts["subjects"],
        templates=_by_key(core, templates),
        searchable=_by_key(core, searchable),
        keys=counts["idempotency"],
        remaining=remaining,
        overwritten=overwritten,
        at=time.time(),
    )


def _by_key(core: Core, counts: dict[int, int]) -> dict[str, int]:
    return {core.collections[number].space.key: count for number, count in counts.items()}
