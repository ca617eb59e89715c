"""The embedded gallery's tables, and how an older database becomes today's."""

from __future__ import annotations

import sqlite3

from services.errors import Errors, MienError

# A template's number is its sequence number too: AUTOINCREMENT never gives one twice, and a
# template that is replaced is a new row.
_STEPS = (
    """
    CREATE TABLE facts (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT;
    CREATE TABLE tenants (
        number INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        wrapped_key BLOB NOT NULL
    ) STRICT;
    CREATE TABLE collections (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        key TEXT NOT NULL UNIQUE,
        space TEXT NOT NULL
    ) STRICT;
    CREATE TABLE live (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        collection INTEGER NOT NULL REFERENCES collections
    ) STRICT;
    CREATE TABLE subjects (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        tenant INTEGER NOT NULL REFERENCES tenants,
        id TEXT NOT NULL,
        consent INTEGER NOT NULL CHECK (consent IN (0, 1)),
        sealed BLOB NOT NULL,
        created REAL NOT NULL,
        updated REAL NOT NULL,
        UNIQUE (tenant, id)
    ) STRICT;
    CREATE TABLE templates (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        collection INTEGER NOT NULL REFERENCES collections,
        tenant INTEGER NOT NULL REFERENCES tenants,
        subject INTEGER NOT NULL REFERENCES subjects,
        id TEXT NOT NULL,
        map TEXT NOT NULL,
        confidence REAL NOT NULL,
        quality REAL NOT NULL,
        pictures INTEGER NOT NULL,
        created REAL NOT NULL,
        sealed BLOB NOT NULL,
        UNIQUE (tenant, id, collection)
    ) STRICT;
    CREATE INDEX templates_in_order ON templates (collection, number);
    CREATE INDEX templates_of_subject ON templates (subject);
    CREATE TABLE idempotency (
        tenant INTEGER NOT NULL REFERENCES tenants,
        key TEXT NOT NULL,
        subject INTEGER NOT NULL REFERENCES subjects,
        fingerprint TEXT NOT NULL,
        template_ids TEXT NOT NULL,
        PRIMARY KEY (tenant, key)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX idempotency_of_subject ON idempotency (subject);
    CREATE TABLE jobs (name TEXT PRIMARY KEY, state TEXT NOT NULL, updated REAL NOT NULL) STRICT;
    """,
    # Data keys get versions, so that rows can be sealed anew while they are in use.
    """
    CREATE TABLE keys (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        tenant INTEGER NOT NULL REFERENCES tenants,
        version INTEGER NOT NULL,
        wrapped BLOB NOT NULL,
        created REAL NOT NULL,
        UNIQUE (tenant, version)
    ) STRICT;
    INSERT INTO keys (tenant, version, wrapped, created)
        SELECT number, 1, wrapped_key, 0 FROM tenants;
    ALTER TABLE tenants DROP COLUMN wrapped_key;
    ALTER TABLE subjects ADD COLUMN key INTEGER NOT NULL DEFAULT 1;
    ALTER TABLE templates ADD COLUMN key INTEGER NOT NULL DEFAULT 1;
    CREATE INDEX subjects_by_key ON subjects (tenant, key);
    CREATE INDEX templates_by_key ON templates (tenant, key);
    """,
)


def migrate(connection: sqlite3.Connection) -> None:
    """Brings a database to today's tables, each step in a transaction.

    Raises:
        MienError: a newer Mien has written it.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > len(_STEPS):
        raise MienError(Errors.GALLERY_UNAVAILABLE, "A newer Mien has written this gallery.")
    for number, step in enumerate(_STEPS[version:], start=version + 1):
        connection.executescript(f"BEGIN; {step}; PRAGMA user_version = {number}; COMMIT;")
