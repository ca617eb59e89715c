"""Deletion, and the second look that proves it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from services.errors import Errors, MienError
from services.gallery.embedded.core import Core
from services.gallery.embedded.database import Connection
from services.gallery.embedded.template_rows import Changes
from services.gallery.values import DeletionReport


@dataclass
class _Gone:
    """What a transaction deleted; ``number`` is the subject's."""

    number: int
    subjects: int = 0
    templates: dict[int, int] = field(default_factory=dict)
    keys: int = 0


async def delete_subject(core: Core, tenant_name: str, subject_id: str) -> DeletionReport:
    """Deletes a subject; see `Gallery.delete_subject`."""

    def work(connection: Connection, changes: Changes) -> _Gone:
        number = _subject_number(core, connection, tenant_name, subject_id)
        gone = _Gone(number)
        _delete_templates(connection, "subject = ?", (number,), gone, changes)
        gone.keys = connection.execute(
            "DELETE FROM idempotency WHERE subject = ?", (number,)
        ).rowcount
        gone.subjects = connection.execute(
            "DELETE FROM subjects WHERE number = ?", (number,)
        ).rowcount
        return gone

    gone, searchable = await core.commit_and_count(work)

    def left(connection: Connection) -> dict[str, int]:
        tenant = core.rows.tenant(connection, tenant_name)
        at = (0 if tenant is None else tenant.number, subject_id)
        return {
            "subjects": _count(
                connection, "SELECT COUNT(*) FROM subjects WHERE tenant = ? AND id = ?", at
            ),
            "templates": _count(
                connection, "SELECT COUNT(*) FROM templates WHERE subject = ?", (gone.number,)
            ),
            "keys": _count(
                connection, "SELECT COUNT(*) FROM idempotency WHERE subject = ?", (gone.number,)
            ),
            "jobs": _count(
                connection,
                "SELECT COUNT(*) FROM jobs WHERE instr(state, ?) > 0",
                (json.dumps(subject_id),),
            ),
            "search": core.indexes.count_of(gone.number),
        }

    return await _report(core, subject_id, gone, searchable, left)


async def delete_template(core: Core, tenant_name: str, template_id: str) -> DeletionReport:
    """Deletes a template in all spaces; see `Gallery.delete_template`."""
    numbers: list[int] = []

    def work(connection: Connection, changes: Changes) -> _Gone:
        tenant = core.rows.tenant(connection, tenant_name)
        owner = None if tenant is None else core.templates.owner(connection, tenant, template_id)
        if tenant is None or owner is None:
            raise MienError(Errors.TEMPLATE_UNKNOWN, "There is no such template.")
        gone = _Gone(owner)
        at = (tenant.number, template_id)
        numbers.extend(_delete_templates(connection, "tenant = ? AND id = ?", at, gone, changes))
        return gone

    gone, searchable = await core.commit_and_count(work)

    def left(connection: Connection) -> dict[str, int]:
        rows = [
            _count(connection, "SELECT COUNT(*) FROM templates WHERE number = ?", (number,))
            for number in numbers
        ]
        found = sum(core.indexes.holds(number) for number in numbers)
        return {"templates": sum(rows), "search": found}

    return await _report(core, "", gone, searchable, left)


async def _report(
    core: Core,
    subject_id: str,
    gone: _Gone,
    searchable: dict[int, int],
    left: Callable[[Connection], dict[str, int]],
) -> DeletionReport:
    overwritten = await core.database.alone(core.database.empty_log)
    remaining = await core.database.read(left)
    return DeletionReport(
        subject_id=subject_id,
        subjects=gone.subjects,
        templates=_by_key(core, gone.templates),
        searchable=_by_key(core, searchable),
        keys=gone.keys,
        remaining=remaining,
        overwritten=overwritten,
        at=time.time(),
    )


def _subject_number(core: Core, connection: Connection, tenant_name: str, subject_id: str) -> int:
    tenant = core.rows.tenant(connection, tenant_name)
    row = None
    if tenant is not None:
        row = connection.execute(
            "SELECT number FROM subjects WHERE tenant = ? AND id = ?", (tenant.number, subject_id)
        ).fetchone()
    if row is None:
        raise MienError(Errors.SUBJECT_UNKNOWN, "There is no such subject.")
    return int(row[0])


def _delete_templates(
    connection: Connection,
    where: str,
    values: tuple[int | str, ...],
    gone: _Gone,
    changes: Changes,
) -> list[int]:
    rows = connection.execute(
        f"DELETE FROM templates WHERE {where} "  # noqa: S608 - one of two texts, both from here
        "RETURNING number, tenant, collection",
        values,
    ).fetchall()
    for number, tenant, collection in rows:
        gone.templates[collection] = gone.templates.get(collection, 0) + 1
        changes.removed[tenant, collection].append(number)
    return [number for number, *_ in rows]


def _by_key(core: Core, counts: dict[int, int]) -> dict[str, int]:
    return {core.collections[number].space.key: count for number, count in counts.items()}


def _count(connection: Connection, question: str, values: tuple[int | str, ...]) -> int:
    return int(connection.execute(question, values).fetchone()[0])
