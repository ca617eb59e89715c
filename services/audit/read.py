"""Reading of the audit log: what was done to a subject, and all of it as JSON lines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.audit.anchor import AnchorKey
from services.audit.log import log_files
from services.audit.verify import records

Record = dict[str, Any]


@dataclass(frozen=True)
class Filter:
    """Which records are wanted; empty fields want all.

    Attributes:
        tenant: whose data.
        subject: id of a subject.
        since: least time, ISO 8601, UTC.
    """

    tenant: str = ""
    subject: str = ""
    since: str = ""


def read(
    folder: Path, wanted: Filter, key: AnchorKey | None = None, segments: Sequence[Path] = ()
) -> Iterator[Record]:
    """Records of all files, file after file, each with the name of its file.

    Args:
        folder: of the log.
        wanted: which.
        key: finds subjects that are kept as pseudonyms; None finds plain ids alone.
        segments: files of archived records, which are read first.
    """
    for file in [*segments, *log_files(folder)]:
        for _, told in records(file):
            if told is not None and "n" in told and _fits(told, wanted, key):
                yield {"file": file.name, **told}


def about_subject(folder: Path, tenant: str, subject: str, key: AnchorKey) -> list[Record]:
    """What was done to a subject, by time: all records that name it."""
    found = read(folder, Filter(tenant, subject), key)
    return sorted(found, key=lambda one: str(one["at"]))


def _fits(told: Record, wanted: Filter, key: AnchorKey | None) -> bool:
    if wanted.tenant and told.get("tenant") != wanted.tenant:
        return False
    if wanted.since and str(told.get("at", "")) < wanted.since:
        return False
    if not wanted.subject:
        return True
    names = {wanted.subject}
    if key is not None:
        names.add(key.pseudonym(str(told.get("tenant", "")), wanted.subject))
    about = told.get("about")
    named = about.get("subjects", []) if isinstance(about, dict) else []
    return told.get("subject") in names or bool(names.intersection(named))
