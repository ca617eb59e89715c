"""Deletion in Milvus, and the second look that proves it."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence

from services.errors import Errors, MienError
from services.gallery.checks import checked_id
from services.gallery.milvus.connection import Connection
from services.gallery.milvus.enrolling import of_keys
from services.gallery.milvus.tables import JOBS, KEYS, SUBJECTS, subject_key
from services.gallery.milvus.templates import Templates, of_subject, of_template
from services.gallery.values import DeletionReport, Space


async def delete_subject(
    connection: Connection,
    templates: Templates,
    spaces: Sequence[Space],
    tenant: str,
    subject_id: str,
) -> DeletionReport:
    """Deletes a subject; see `Gallery.delete_subject`."""
    key, where = (tenant, subject_id), of_subject(tenant, checked_id(subject_id, "subject_id"))
    there = len(await templates.subjects([key]))
    # What another process left of a subject that is gone can be deleted too.
    if not there and not await _left(connection, spaces, where):
        raise MienError(Errors.SUBJECT_UNKNOWN, "There is no such subject.")
    rows, found = await _deleted(connection, spaces, where)
    keys = await connection.count(KEYS, of_keys(tenant, subject_id))
    await connection.delete(KEYS, of_keys(tenant, subject_id))
    # The subject goes last: a deletion that was broken off can be repeated.
    own = f"pk == {json.dumps(subject_key(tenant, subject_id))}"
    await connection.delete(SUBJECTS, own)
    told = json.dumps(subject_id)
    jobs = await connection.query(JOBS, 'pk != ""', ("sealed",))
    remaining = {
        "subjects": await connection.count(SUBJECTS, own),
        "templates": await _left(connection, spaces, where),
        "keys": await connection.count(KEYS, of_keys(tenant, subject_id)),
        "jobs": sum(told in job["sealed"] for job in jobs),
        "search": await _left(connection, spaces, where + " and searchable == true"),
    }
    return DeletionReport(
        subject_id, there, rows, found, keys, remaining, overwritten=False, at=time.time()
    )


async def delete_template(
    connection: Connection, spaces: Sequence[Space], tenant: str, template_id: str
) -> DeletionReport:
    """Deletes a template in all spaces; see `Gallery.delete_template`."""
    where = of_template(tenant, template_id)
    rows, found = await _deleted(connection, spaces, where)
    if not rows:
        raise MienError(Errors.TEMPLATE_UNKNOWN, "There is no such template.")
    remaining = {
        "templates": await _left(connection, spaces, where),
        "search": await _left(connection, spaces, where + " and searchable == true"),
    }
    return DeletionReport("", 0, rows, found, 0, remaining, overwritten=False, at=time.time())


async def _deleted(
    connection: Connection, spaces: Sequence[Space], where: str
) -> tuple[dict[str, int], dict[str, int]]:
    """Deletes rows in all collections; gives how many there were, and how many were searchable."""
    rows, found = {}, {}
    for space in spaces:
        if count := await connection.count(space.key, where):
            rows[space.key] = count
        if count := await connection.count(space.key, where + " and searchable == true"):
            found[space.key] = count
        await connection.delete(space.key, where)
    return rows, found


async def _left(connection: Connection, spaces: Sequence[Space], where: str) -> int:
    return sum([await connection.count(space.key, where) for space in spaces])
