"""The data keys of tenants: listed, renewed while the gallery is in use, destroyed.

A renewed key seals new rows at once. Older rows are sealed anew in small transactions; which ones
are left stands in the rows themselves, so that whoever opens the gallery next goes on where a
process was killed. When none is left, the older keys are destroyed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from services.errors import Errors, MienError
from services.gallery.embedded.core import Core
from services.gallery.embedded.database import Connection
from services.gallery.embedded.rows import CollectionRow, TenantRow
from services.gallery.embedded.template_rows import place_of
from services.telemetry import get_logger

_log = get_logger(__name__)
_ROWS_AT_ONCE = 200  # some milliseconds, in which nothing else is written
_PAUSE = 0.005  # between two transactions: enrolments go first
_RETRY = 5.0


@dataclass(frozen=True)
class TenantKey:
    """A tenant's data key.

    Attributes:
        tenant: whose.
        version: of the newest key, from 1.
        created: of that key, seconds since the epoch; 0 where an older Mien made it.
        behind: rows that are still sealed with older keys.
    """

    tenant: str
    version: int
    created: float
    behind: int


class DataKeys:
    """The data keys of one open gallery.

    Args:
        core: an open database.
    """

    def __init__(self, core: Core) -> None:
        self._core = core
        self._task: asyncio.Task[None] | None = None

    async def all(self) -> list[TenantKey]:
        """The keys of all tenants, by name."""

        def work(connection: Connection) -> list[TenantKey]:
            found = connection.execute(
                "SELECT n.name, n.number, k.version, k.created FROM tenants n JOIN keys k "
                "ON k.tenant = n.number WHERE k.version = "
                "(SELECT MAX(version) FROM keys WHERE tenant = n.number) ORDER BY n.name"
            ).fetchall()
            return [
                TenantKey(name, version, created, _behind(connection, number, version))
                for name, number, version, created in found
            ]

        return await self._core.database.read(work)

    async def rotate(self, tenants: Sequence[str] = ()) -> list[str]:
        """Gives tenants new keys and begins to seal their rows anew; none named: all tenants.

        Returns:
            The tenants.

        Raises:
            MienError: a tenant is not known.
        """

        def work(connection: Connection) -> list[str]:
            every = [name for (name,) in connection.execute("SELECT name FROM tenants")]
            for name in tenants or every:
                row = self._core.rows.tenant(connection, name)
                if row is None:
                    raise MienError(
                        Errors.INVALID_REQUEST, "There is no such tenant.", field="tenant"
                    )
                self._core.rows.add_key(connection, row.number, name, row.version + 1)
            return sorted(tenants or every)

        done = await self._core.database.write(work)
        self.go_on()
        return done

    def go_on(self) -> None:
        """Seals rows anew in the background, if there are any to seal."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._work())

    async def finished(self) -> None:
        """Waits until nothing is left to be sealed anew."""
        if self._task is not None:
            await asyncio.shield(self._task)

    async def close(self) -> None:
        """Stops after the transaction at hand; the next process goes on."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _work(self) -> None:
        count = 0
        while True:
            try:
                done = await self._core.database.write(self._step)
            except MienError as error:  # as when the disk is full: the old keys still open all
                _log.warning("rows could not be sealed anew", code=error.kind.code)
                await asyncio.sleep(_RETRY)
                continue
            if done is None:
                break
            count += done
            await asyncio.sleep(_PAUSE)
        if count:
            self._core.rows.forget()
            await self._core.database.alone(self._core.database.empty_log)
            _log.info("rows were sealed with new keys", rows=count)

    def _step(self, connection: Connection) -> int | None:
        """Seals some rows anew; None when none is left and the older keys are destroyed."""
        row = connection.execute(
            "SELECT n.name FROM tenants n JOIN keys k ON k.tenant = n.number "
            "GROUP BY n.number HAVING COUNT(*) > 1 LIMIT 1"
        ).fetchone()
        tenant = None if row is None else self._core.rows.tenant(connection, row[0])
        if tenant is None:
            return None
        done = _templates_anew(connection, tenant, self._collections(connection))
        done = done or _subjects_anew(connection, tenant)
        if not done:
            connection.execute(
                "DELETE FROM keys WHERE tenant = ? AND version < ?",
                (tenant.number, tenant.version),
            )
        return done

    def _collections(self, connection: Connection) -> dict[int, CollectionRow]:
        return {one.number: one for one in self._core.rows.collections(connection)}


def _behind(connection: Connection, tenant: int, version: int) -> int:
    (count,) = connection.execute(
        "SELECT (SELECT COUNT(*) FROM templates WHERE tenant = ?1 AND key < ?2) + "
        "(SELECT COUNT(*) FROM subjects WHERE tenant = ?1 AND key < ?2)",
        (tenant, version),
    ).fetchone()
    return int(count)


def _templates_anew(
    connection: Connection, tenant: TenantRow, collections: dict[int, CollectionRow]
) -> int:
    """Seals some templates with the newest key; their numbers stay, so search need not follow."""
    rows = connection.execute(
        "SELECT t.number, s.id, t.id, t.collection, t.map, t.sealed, t.key FROM templates t "
        "JOIN subjects s ON s.number = t.subject WHERE t.tenant = ? AND t.key < ? LIMIT ?",
        (tenant.number, tenant.version, _ROWS_AT_ONCE),
    ).fetchall()
    for number, subject_id, template_id, collection, mapped_by, sealed, key in rows:
        space = collections[collection].space
        place = place_of(tenant, subject_id, template_id, space, mapped_by)
        again = tenant.seal(tenant.open(sealed, key, *place), *place)
        connection.execute(
            "UPDATE templates SET sealed = ?, key = ? WHERE number = ?",
            (again, tenant.version, number),
        )
    return len(rows)


def _subjects_anew(connection: Connection, tenant: TenantRow) -> int:
    rows = connection.execute(
        "SELECT number, id, sealed, key FROM subjects WHERE tenant = ? AND key < ? LIMIT ?",
        (tenant.number, tenant.version, _ROWS_AT_ONCE),
    ).fetchall()
    for number, subject_id, sealed, key in rows:
        place = ("subject", tenant.name, subject_id)
        again = tenant.seal(tenant.open(sealed, key, *place), *place)
        connection.execute(
            "UPDATE subjects SET sealed = ?, key = ? WHERE number = ?",
            (again, tenant.version, number),
        )
    return len(rows)
