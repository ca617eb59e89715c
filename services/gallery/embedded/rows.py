"""Rows of tenants, collections and subjects: what is read and written inside a transaction."""

from __future__ import annotations

import json
import sqlite3
import time
from dataclasses import asdict, dataclass

from services.errors import Errors, MienError
from services.gallery.embedded.keys import Cipher, new_key
from services.gallery.values import Space, Subject

Connection = sqlite3.Connection
_CHECK = "master key"


@dataclass(frozen=True)
class TenantRow:
    """A tenant and the cipher of its data key."""

    number: int
    name: str
    cipher: Cipher


@dataclass(frozen=True)
class CollectionRow:
    """A collection and its number."""

    number: int
    space: Space


class Rows:
    """Reads and writes rows; sealed ones by the keys of their tenants.

    Args:
        master: the cipher that the tenants' keys are wrapped with.
    """

    def __init__(self, master: Cipher) -> None:
        self._master = master
        self._ciphers: dict[bytes, Cipher] = {}

    def mark(self, connection: Connection) -> None:
        """Writes what tells the right master key from a wrong one."""
        connection.execute(
            "INSERT OR REPLACE INTO facts VALUES (?, ?)",
            (_CHECK, self._master.seal(b"", _CHECK)),
        )

    def fits(self, connection: Connection) -> bool:
        """Whether the master key is the database's; a database without rows takes any."""
        row = connection.execute("SELECT value FROM facts WHERE name = ?", (_CHECK,)).fetchone()
        if row is None:
            self.mark(connection)
            return True
        try:
            self._master.open(row[0], _CHECK)
        except MienError:
            return False
        return True

    def rewrap(self, connection: Connection, master: Cipher) -> None:
        """Wraps every tenant's key with another master key."""
        for number, name, wrapped in connection.execute("SELECT * FROM tenants").fetchall():
            key = self._master.open(wrapped, "tenant", name)
            connection.execute(
                "UPDATE tenants SET wrapped_key = ? WHERE number = ?",
                (master.seal(key, "tenant", name), number),
            )
        Rows(master).mark(connection)

    # Tenants and collections.

    def tenant(self, connection: Connection, name: str) -> TenantRow | None:
        """A tenant that has written something, or None."""
        row = connection.execute(
            "SELECT number, wrapped_key FROM tenants WHERE name = ?", (name,)
        ).fetchone()
        if row is None:
            return None
        number, wrapped = row
        cipher = self._ciphers.get(wrapped)
        if cipher is None:
            cipher = Cipher(self._master.open(wrapped, "tenant", name))
            self._ciphers[wrapped] = cipher
        return TenantRow(number, name, cipher)

    def made_tenant(self, connection: Connection, name: str) -> TenantRow:
        """A tenant, with a data key of its own if it is new."""
        known = self.tenant(connection, name)
        if known is not None:
            return known
        key = new_key()
        added = connection.execute(
            "INSERT INTO tenants (name, wrapped_key) VALUES (?, ?)",
            (name, self._master.seal(key, "tenant", name)),
        )
        return TenantRow(int(added.lastrowid or 0), name, Cipher(key))

    @staticmethod
    def collections(connection: Connection) -> list[CollectionRow]:
        """All collections, oldest first."""
        rows = connection.execute("SELECT number, space FROM collections ORDER BY number")
        return [CollectionRow(number, Space(**json.loads(space))) for number, space in rows]

    @staticmethod
    def collection(connection: Connection, space: Space) -> CollectionRow:
        """A space's collection.

        Raises:
            MienError: there is none.
        """
        row = connection.execute(
            "SELECT number FROM collections WHERE key = ?", (space.key,)
        ).fetchone()
        if row is None:
            raise MienError(
                Errors.COLLECTION_UNKNOWN, f"The gallery has no templates of {space.reference}."
            )
        return CollectionRow(row[0], space)

    @staticmethod
    def add_collection(connection: Connection, space: Space) -> int:
        """Adds a collection and returns its number."""
        added = connection.execute(
            "INSERT INTO collections (key, space) VALUES (?, ?)",
            (space.key, json.dumps(asdict(space))),
        )
        return int(added.lastrowid or 0)

    @staticmethod
    def live(connection: Connection) -> CollectionRow | None:
        """The live collection, if there is one."""
        row = connection.execute(
            "SELECT c.number, c.space FROM live JOIN collections c ON c.number = live.collection"
        ).fetchone()
        return None if row is None else CollectionRow(row[0], Space(**json.loads(row[1])))

    # Subjects.

    def subject(
        self, connection: Connection, tenant: TenantRow, subject_id: str
    ) -> tuple[int, Subject] | None:
        """A subject and its number."""
        row = connection.execute(
            "SELECT number, id, consent, sealed, created, updated FROM subjects "
            "WHERE tenant = ? AND id = ?",
            (tenant.number, subject_id),
        ).fetchone()
        return None if row is None else (row[0], self._opened(tenant, *row[1:]))

    def subjects(
        self, connection: Connection, tenant: TenantRow, after: str, limit: int
    ) -> list[Subject]:
        """Subjects whose id is behind another, by id."""
        rows = connection.execute(
            "SELECT id, consent, sealed, created, updated FROM subjects "
            "WHERE tenant = ? AND id > ? ORDER BY id LIMIT ?",
            (tenant.number, after, limit),
        )
        return [self._opened(tenant, *row) for row in rows]

    @staticmethod
    def put_subject(connection: Connection, tenant: TenantRow, subject: Subject) -> int:
        """Stores a subject in place of an earlier one and returns its number."""
        told = json.dumps({"name": subject.name, "metadata": dict(subject.metadata)})
        sealed = tenant.cipher.seal(told.encode(), "subject", tenant.name, subject.id)
        now = time.time()
        row = connection.execute(
            "INSERT INTO subjects (tenant, id, consent, sealed, created, updated) "
            "VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (tenant, id) DO UPDATE SET "
            "consent = excluded.consent, sealed = excluded.sealed, updated = excluded.updated "
            "RETURNING number",
            (
                tenant.number,
                subject.id,
                int(subject.consent),
                sealed,
                subject.created or now,
                subject.updated or now,
            ),
        ).fetchone()
        return int(row[0])

    @staticmethod
    def _opened(
        tenant: TenantRow, subject_id: str, consent: int, sealed: bytes, created: float, at: float
    ) -> Subject:
        told = json.loads(tenant.cipher.open(sealed, "subject", tenant.name, subject_id))
        return Subject(subject_id, told["name"], told["metadata"], bool(consent), created, at)
