"""Rows of templates, and what a transaction did that search has to follow."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from services.gallery.embedded.rows import CollectionRow, Connection, Rows, TenantRow
from services.gallery.values import Candidate, Space, Template, Vector

Place = tuple[int, int]
"""Numbers of a tenant and a collection: where a search index belongs."""

_ROWS_AT_ONCE = 500  # SQLite takes more variables, but not in every build
_TEMPLATES = (
    "SELECT t.number, t.id, s.id, t.map, t.confidence, t.quality, t.pictures, t.created, t.sealed, "
    "t.key, n.name FROM templates t JOIN subjects s ON s.number = t.subject "
    "JOIN tenants n ON n.number = t.tenant "
)


@dataclass
class Changes:
    """What a transaction did.

    Attributes:
        added: vectors that came, with their template's and subject's numbers.
        removed: numbers of the templates that went.
        dropped: numbers of the collections that went.
        spaces: whether collections came, went, or another one is live.
    """

    added: dict[Place, list[tuple[int, int, Vector]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    removed: dict[Place, list[int]] = field(default_factory=lambda: defaultdict(list))
    dropped: list[int] = field(default_factory=list)
    spaces: bool = False


class TemplateRows:
    """Reads and writes templates.

    Args:
        rows: knows the tenants and their keys.
    """

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    @staticmethod
    def owner(connection: Connection, tenant: TenantRow, template_id: str) -> int | None:
        """The number of the subject that an id belongs to, in whatever space."""
        row = connection.execute(
            "SELECT subject FROM templates WHERE tenant = ? AND id = ?",
            (tenant.number, template_id),
        ).fetchone()
        return None if row is None else int(row[0])

    @staticmethod
    def held(
        connection: Connection, tenant: TenantRow, collection: CollectionRow, template_id: str
    ) -> tuple[int, str] | None:
        """Number and map of a template, or None."""
        row = connection.execute(
            "SELECT number, map FROM templates WHERE tenant = ? AND id = ? AND collection = ?",
            (tenant.number, template_id, collection.number),
        ).fetchone()
        return None if row is None else (int(row[0]), str(row[1]))

    @staticmethod
    def put(
        connection: Connection,
        tenant: TenantRow,
        collection: CollectionRow,
        subject: tuple[int, bool],
        template: Template,
        changes: Changes,
    ) -> None:
        """Stores a template in place of the one of the same id, as a new row.

        Args:
            connection: in a transaction.
            tenant: whose.
            collection: of the template's space.
            subject: its number, and whether search may find it.
            template: with its vector as it is compared.
            changes: what search must follow.
        """
        number, findable = subject
        where = (tenant.number, collection.number)
        held = TemplateRows.held(connection, tenant, collection, template.id)
        if held is not None:
            connection.execute("DELETE FROM templates WHERE number = ?", (held[0],))
            changes.removed[where].append(held[0])
        plain = np.ascontiguousarray(template.vector, np.float32)
        place = place_of(tenant, template.subject_id, template.id, template.space, template.map)
        added = connection.execute(
            "INSERT INTO templates (collection, tenant, subject, id, map, confidence, quality, "
            "pictures, created, sealed, key) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                collection.number,
                tenant.number,
                number,
                template.id,
                template.map,
                template.confidence,
                template.quality,
                template.pictures,
                template.created or time.time(),
                tenant.seal(plain.tobytes(), *place),
                tenant.version,
            ),
        )
        if findable:
            changes.added[where].append((int(added.lastrowid or 0), number, plain))

    @staticmethod
    def drop_mapped(
        connection: Connection,
        tenant: TenantRow,
        collection: CollectionRow,
        subject: int,
        changes: Changes,
    ) -> None:
        """Deletes a subject's mapped templates in a collection."""
        gone = connection.execute(
            "DELETE FROM templates WHERE subject = ? AND collection = ? AND map <> '' "
            "RETURNING number",
            (subject, collection.number),
        ).fetchall()
        changes.removed[tenant.number, collection.number] += [number for (number,) in gone]

    def of_subject(
        self, connection: Connection, subject: int, spaces: dict[int, Space]
    ) -> list[Template]:
        """A subject's templates in all spaces, oldest first; ``spaces`` by collection number."""
        found = []
        for collection, space in spaces.items():
            rows = connection.execute(
                _TEMPLATES + "WHERE t.subject = ? AND t.collection = ?", (subject, collection)
            )
            found += [self._template(connection, space, row) for row in rows]
        return sorted(found, key=lambda one: one.sequence)

    def scan(
        self,
        connection: Connection,
        collection: CollectionRow,
        after: int,
        limit: int,
        tenant: str | None,
    ) -> list[Template]:
        """Templates behind a number, by number; of all tenants if none is named."""
        rows = connection.execute(
            _TEMPLATES + "WHERE t.collection = ? AND t.number > ? AND (? IS NULL OR n.name = ?) "
            "ORDER BY t.number LIMIT ?",
            (collection.number, after, tenant, tenant, limit),
        ).fetchall()
        return [self._template(connection, collection.space, row) for row in rows]

    def vectors(
        self,
        connection: Connection,
        collection: CollectionRow,
        tenant: TenantRow,
        subject: int | None = None,
    ) -> Iterator[tuple[int, int, Vector]]:
        """Vectors that search may find: template's number, subject's number, vector.

        Args:
            connection: in a transaction.
            collection: to read.
            tenant: whose.
            subject: only this one's, by number.
        """
        rows = connection.execute(
            "SELECT t.number, t.subject, s.id, t.id, t.map, t.sealed, t.key FROM templates t "
            "JOIN subjects s ON s.number = t.subject WHERE t.collection = ? AND t.tenant = ? "
            "AND s.consent = 1 AND (? IS NULL OR s.number = ?) ORDER BY t.number",
            (collection.number, tenant.number, subject, subject),
        )
        for number, owner, subject_id, template_id, mapped_by, sealed, key in rows:
            place = place_of(tenant, subject_id, template_id, collection.space, mapped_by)
            yield number, owner, np.frombuffer(tenant.open(sealed, key, *place), np.float32)

    def _template(self, connection: Connection, space: Space, row: tuple[Any, ...]) -> Template:
        number, template_id, subject_id, mapped_by, *facts, sealed, key, name = row
        confidence, quality, pictures, created = facts
        tenant = self._rows.made_tenant(connection, name)
        place = place_of(tenant, subject_id, template_id, space, mapped_by)
        return Template(
            tenant=name,
            subject_id=subject_id,
            id=template_id,
            space=space,
            vector=np.frombuffer(tenant.open(sealed, key, *place), np.float32),
            map=mapped_by,
            confidence=confidence,
            quality=quality,
            pictures=pictures,
            created=created,
            sequence=number,
        )


def place_of(
    tenant: TenantRow, subject_id: str, template_id: str, space: Space, mapped_by: str
) -> tuple[str, ...]:
    """What a sealed vector is bound to."""
    return ("template", tenant.name, subject_id, template_id, space.key, mapped_by)


def told_of(connection: Connection, numbers: Sequence[int]) -> dict[int, Candidate]:
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
