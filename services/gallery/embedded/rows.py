"""Rows of tenants, collections and subjects: what is read and written inside a transaction."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from services.errors import Errors, MienError
from services.gallery.embedded.keys import Cipher, new_key
from services.gallery.embedded.wrapping import KeyWrapper, proof
from services.gallery.values import Space, Subject

Connection = sqlite3.Connection
_CHECK = "master key"
_FIRST = 1  # version of a tenant's first key


@dataclass(frozen=True)
class TenantRow:
    """A tenant and the ciphers of its data keys.

    Attributes:
        number: of its row.
        name: as callers say it.
        version: of the key that new rows are sealed with.
        ciphers: by version of their key; there are several while rows are encrypted anew.
    """

    number: int
    name: str
    version: int
    ciphers: Mapping[int, Cipher]

    def seal(self, plain: bytes, *place: str) -> bytes:
        """Encrypts bytes with the newest key; see `Cipher.seal`."""
        return self.ciphers[self.version].seal(plain, *place)

    def open(self, sealed: bytes, version: int, *place: str) -> bytes:
        """Decrypts what was sealed with the key of a version; see `Cipher.open`.

        Raises:
            MienError: the key is gone, or not that of these bytes.
        """
        cipher = self.ciphers.get(version)
        if cipher is None:
            raise MienError(Errors.GALLERY_UNAVAILABLE, "The key of a row was destroyed.")
        return cipher.open(sealed, *place)


@dataclass(frozen=True)
class CollectionRow:
    """A collection and its number."""

    number: int
    space: Space


class Rows:
    """Reads and writes rows; sealed ones by the keys of their tenants.

    Args:
        master: what the tenants' keys are wrapped with.
    """

    def __init__(self, master: KeyWrapper) -> None:
        self.master = master
        self._ciphers: dict[bytes, Cipher] = {}

    def mark(self, connection: Connection) -> None:
        """Writes what tells the right master key from a wrong one."""
        connection.execute(
            "INSERT OR REPLACE INTO facts VALUES (?, ?)", (_CHECK, proof(self.master, _CHECK))
        )

    def check(self, connection: Connection) -> None:
        """Refuses a master key that is not the database's; one without rows takes any.

        Raises:
            MienError: it is another, or cannot be used.
        """
        row = connection.execute("SELECT value FROM facts WHERE name = ?", (_CHECK,)).fetchone()
        if row is None:
            self.mark(connection)
        else:
            self.master.unwrap(row[0], _CHECK)

    def rewrap(self, connection: Connection, master: KeyWrapper) -> None:
        """Wraps every tenant's keys with another master key."""
        found = connection.execute(
            "SELECT k.number, n.name, k.wrapped FROM keys k JOIN tenants n ON n.number = k.tenant"
        ).fetchall()
        for number, name, wrapped in found:
            key = self.master.unwrap(wrapped, "tenant", name)
            again = master.wrap(key, "tenant", name)
            connection.execute("UPDATE keys SET wrapped = ? WHERE number = ?", (again, number))
            self._ciphers[again] = Cipher(key)  # for readers, until `master` is the new one
        Rows(master).mark(connection)

    # Tenants and collections.

    def tenant(self, connection: Connection, name: str) -> TenantRow | None:
        """A tenant that has written something, or None."""
        found = connection.execute(
            "SELECT n.number, k.version, k.wrapped FROM tenants n JOIN keys k "
            "ON k.tenant = n.number WHERE n.name = ? ORDER BY k.version",
            (name,),
        ).fetchall()
        if not found:
            return None
        ciphers = {version: self._cipher(wrapped, name) for _, version, wrapped in found}
        return TenantRow(found[0][0], name, found[-1][1], ciphers)

    def made_tenant(self, connection: Connection, name: str) -> TenantRow:
        """A tenant, with a data key of its own if it is new."""
        known = self.tenant(connection, name)
        if known is not None:
            return known
        added = connection.execute("INSERT INTO tenants (name) VALUES (?)", (name,))
        number = int(added.lastrowid or 0)
        self.add_key(connection, number, name, _FIRST)
        made = self.tenant(connection, name)
        assert made is not None  # noqa: S101 - written just now
        return made

    def add_key(self, connection: Connection, tenant: int, name: str, version: int) -> None:
        """Gives a tenant a new data key, which rows are sealed with from now on."""
        key = new_key()
        wrapped = self.master.wrap(key, "tenant", name)
        connection.execute(
            "INSERT INTO keys (tenant, version, wrapped, created) VALUES (?, ?, ?, ?)",
            (tenant, version, wrapped, time.time()),
        )
        self._ciphers[wrapped] = Cipher(key)

    def _cipher(self, wrapped: bytes, name: str) -> Cipher:
        cipher = self._ciphers.get(wrapped)
        if cipher is None:
            cipher = Cipher(self.master.unwrap(wrapped, "tenant", name))
            self._ciphers[wrapped] = cipher
        return cipher

    def forget(self) -> None:
        """Lets go of keys that were destroyed; those that are left are unwrapped anew."""
        self._ciphers.clear()

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
            "SELECT number, id, consent, sealed, key, created, updated FROM subjects "
            "WHERE tenant = ? AND id = ?",
            (tenant.number, subject_id),
        ).fetchone()
        return None if row is None else (row[0], self._opened(tenant, *row[1:]))

    def subjects(
        self, connection: Connection, tenant: TenantRow, after: str, limit: int
    ) -> list[Subject]:
        """Subjects whose id is behind another, by id."""
        rows = connection.execute(
            "SELECT id, consent, sealed, key, created, updated FROM subjects "
            "WHERE tenant = ? AND id > ? ORDER BY id LIMIT ?",
            (tenant.number, after, limit),
        )
        return [self._opened(tenant, *row) for row in rows]

    @staticmethod
    def put_subject(connection: Connection, tenant: TenantRow, subject: Subject) -> int:
        """Stores a subject in place of an earlier one and returns its number."""
        told = json.dumps({"name": subject.name, "metadata": dict(subject.metadata)})
        sealed = tenant.seal(told.encode(), "subject", tenant.name, subject.id)
        now = time.time()
        row = connection.execute(
            "INSERT INTO subjects (tenant, id, consent, sealed, key, created, updated) "
            "VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (tenant, id) DO UPDATE SET "
            "consent = excluded.consent, sealed = excluded.sealed, key = excluded.key, "
            "updated = excluded.updated RETURNING number",
            (
                tenant.number,
                subject.id,
                int(subject.consent),
                sealed,
                tenant.version,
                subject.created or now,
                subject.updated or now,
            ),
        ).fetchone()
        return int(row[0])

    @staticmethod
    def _opened(
        tenant: TenantRow,
        subject_id: str,
        consent: int,
        sealed: bytes,
        version: int,
        created: float,
        at: float,
    ) -> Subject:
        told = json.loads(tenant.open(sealed, version, "subject", tenant.name, subject_id))
        return Subject(subject_id, told["name"], told["metadata"], bool(consent), created, at)
