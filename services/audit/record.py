"""One record of the audit log, and how it is chained to the one before it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

START = "0" * 64
"""What the first record of a file follows."""


class Action(StrEnum):
    """What is audited."""

    LOG_OPEN = "log.open"
    SUBJECT_STORE = "subject.store"
    SUBJECT_DELETE = "subject.delete"
    CONSENT_GIVE = "consent.give"
    CONSENT_WITHDRAW = "consent.withdraw"
    ENROL = "enrol"
    TEMPLATE_DELETE = "template.delete"
    IMPORT = "import"
    VERIFY = "verify"
    IDENTIFY = "identify"
    EXPORT = "export"
    COPY = "copy"
    COLLECTION_DROP = "collection.drop"
    TENANT_DELETE = "tenant.delete"
    KEYS_ROTATE = "keys.rotate"
    KEYS_REWRAP = "keys.rewrap"
    RETENTION = "retention"
    MIGRATION_PLAN = "migration.plan"
    MIGRATION_START = "migration.start"
    MIGRATION_PAUSE = "migration.pause"
    MIGRATION_SWITCH = "migration.switch"
    MIGRATION_ROLLBACK = "migration.rollback"
    MIGRATION_DISCARD = "migration.discard"
    ACCESS_REFUSED = "access.refused"
    ACCESS_KEY_CREATE = "access.key.create"
    ACCESS_KEY_ROTATE = "access.key.rotate"
    ACCESS_KEY_REVOKE = "access.key.revoke"
    LOG_ARCHIVE = "log.archive"
    POLICY = "policy"


@dataclass(frozen=True)
class Entry:
    """What is told of one action. No name, picture, vector or similarity ever goes in.

    Attributes:
        action: what was done.
        who: key, token's subject, or part of Mien.
        tenant: whose data; empty where the action concerns all.
        subject: id or pseudonym of the person; empty where it concerns none or many.
        outcome: "begun" before a change, "done" after it, or the code of the error.
        request: id of the request.
        counts: how many rows, by kind.
        of: number of the record that told of the beginning; 0 where there is none.
        about: further facts: ids of migrations, models or templates, never of what they look like.
    """

    action: Action
    who: str
    tenant: str = ""
    subject: str = ""
    outcome: str = "done"
    request: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)
    of: int = 0
    about: Mapping[str, Any] = field(default_factory=dict)


def line_of(entry: Entry, number: int, at: str, before: str) -> tuple[bytes, str]:
    """A record as its line in the file, and its hash.

    Args:
        entry: what is told.
        number: of the record in its file, from 1.
        at: time, ISO 8601, UTC.
        before: hash of the record before it, or `START`.
    """
    told = {
        "n": number,
        "at": at,
        "who": entry.who,
        "tenant": entry.tenant,
        "action": entry.action.value,
        "subject": entry.subject,
        "outcome": entry.outcome,
        "request": entry.request,
        "counts": dict(entry.counts),
        "of": entry.of,
        "about": dict(entry.about),
        "prev": before,
    }
    mark = hash_of(told)
    return canonical({**told, "hash": mark}) + b"\n", mark


def hash_of(record: Mapping[str, Any]) -> str:
    """SHA-256 of a record without its own hash; it covers the hash of the record before it."""
    plain = {name: value for name, value in record.items() if name != "hash"}
    return hashlib.sha256(canonical(plain)).hexdigest()


def canonical(value: Mapping[str, Any]) -> bytes:
    """The one way to write a record: names in order, no spaces, ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()
