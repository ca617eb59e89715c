"""Templates in Milvus: what is stored, replaced, looked up."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from services.errors import Errors, MienError
from services.gallery.milvus.connection import Connection, Row, any_of, quoted
from services.gallery.milvus.tables import (
    FIELDS,
    SUBJECT_FIELDS,
    SUBJECTS,
    subject_key,
    subject_of,
    template_row,
)
from services.gallery.milvus.tables import Sequence as Numbers
from services.gallery.values import Space, Subject, Template

_HELD = ("sequence", "tenant", "subject_id", "id", "map")
Key = tuple[str, str]
"""Tenant and id."""


class Templates:
    """Reads and writes rows of templates.

    Args:
        connection: to Milvus.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._numbers = Numbers()

    async def subjects(self, keys: Iterable[Key]) -> dict[Key, Subject]:
        """Subjects by tenant and id, those that there are."""
        found = {}
        for where in any_of("pk", (subject_key(*key) for key in keys)):
            for row in await self._connection.query(SUBJECTS, where, SUBJECT_FIELDS):
                found[row["pk"].partition("/")[0], row["id"]] = subject_of(row)
        return found

    async def held(self, space: Space, keys: Iterable[Key]) -> dict[Key, list[Row]]:
        """The rows that a collection holds of some ids, latest first, without their vectors.

        There is one for each, or two after a replacement that was broken off.
        """
        by_tenant: dict[str, list[str]] = {}
        for tenant, name in keys:
            by_tenant.setdefault(tenant, []).append(name)
        found: dict[Key, list[Row]] = {}
        for tenant, names in by_tenant.items():
            for where in any_of("id", names):
                rows = await self._connection.query(
                    space.key, f"tenant == {quoted(tenant)} and {where}", _HELD
                )
                for row in sorted(rows, key=lambda row: -int(row["sequence"])):
                    found.setdefault((tenant, row["id"]), []).append(row)
        return found

    async def check_owners(self, spaces: Iterable[Space], templates: Sequence[Template]) -> None:
        """Refuses ids that belong to other subjects, in whatever space.

        Raises:
            MienError: one does.
        """
        owners = {(one.tenant, one.id): one.subject_id for one in templates}
        if any(owners[one.tenant, one.id] != one.subject_id for one in templates):
            raise _stolen()
        for space in spaces:
            for key, rows in (await self.held(space, owners)).items():
                if any(row["subject_id"] != owners[key] for row in rows):
                    raise _stolen()

    async def put(self, space: Space, templates: Sequence[Template], hidden: set[Key]) -> None:
        """Stores templates: the new row first, so that at no moment there is none.

        Args:
            space: whose collection.
            templates: with their vectors as they are compared.
            hidden: subjects that search may not find.
        """
        latest = {(one.tenant, one.id): one for one in templates}
        before = await self.held(space, latest)
        rows = [
            template_row(
                one,
                self._numbers.next(),
                searchable=(one.tenant, one.subject_id) not in hidden,
            )
            for one in latest.values()
        ]
        await self._connection.put(space.key, rows)
        await self.forget(space, [row["sequence"] for some in before.values() for row in some])

    async def forget(self, space: Space, sequences: Sequence[int]) -> None:
        """Deletes rows by their numbers."""
        if sequences:
            await self._connection.delete(space.key, f"sequence in {[*sequences]}")

    async def show(self, space: Space, tenant: str, subject_id: str, *, shown: bool) -> None:
        """Lets search find a subject's templates, or hides them."""
        rows = await self._connection.query(space.key, of_subject(tenant, subject_id), FIELDS)
        await self._connection.put(space.key, [{**row, "searchable": shown} for row in rows])


def of_subject(tenant: str, subject_id: str) -> str:
    """The filter of a subject's rows."""
    return f"tenant == {quoted(tenant)} and subject_id == {quoted(subject_id)}"


def of_template(tenant: str, template_id: str) -> str:
    """The filter of a template's rows."""
    return f"tenant == {quoted(tenant)} and id == {quoted(template_id)}"


def _stolen() -> MienError:
    return MienError(
        Errors.INVALID_REQUEST,
        "The template's id belongs to another subject.",
        field="template_id",
    )
