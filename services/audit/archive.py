"""Shortening of the audit log: old records go into a segment, and the log goes on from its end.

At every moment each record is in the log, in the segment, or in both, and both verify: the segment
is on the disk before the first file is shortened, and each file is shortened by one rename.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from services.audit.anchor import AnchorKey
from services.audit.base import base_line, like, read_base, swapping
from services.audit.log import SUFFIX, head_of, log_files
from services.audit.segment import Part, write_segment
from services.audit.verify import records, verify
from services.errors import Errors, MienError

_NEXT = ".next"
_PRIVATE = 0o600


def parts_before(folder: Path, key: AnchorKey, before: datetime) -> list[Part]:
    """What is older: of each file the records up to the first that is not, as far as signed.

    Args:
        folder: of the log.
        key: of its anchors.
        before: least time that stays, in UTC.

    Raises:
        MienError: the log does not hold: what is wrong with it must not be archived away.
        OSError: a file cannot be read.
    """
    if not verify(folder, key).holds:
        raise MienError(
            Errors.AUDIT_UNAVAILABLE, "The log does not hold; `mien audit verify` says why."
        )
    until = before.astimezone(UTC).isoformat(timespec="milliseconds")
    found = (_part(file, key, until) for file in log_files(folder))
    return [one for one in found if one is not None]


def write_archive(
    file: Path, folder: Path, key: AnchorKey, parts: Sequence[Part], before: datetime
) -> tuple[Path, str]:
    """Writes a segment beside the place where it will be; gives its draft, and its SHA-256.

    Raises:
        MienError: there is something at that place.
        OSError: it cannot be written; nothing is left of it.
    """
    if file.exists():
        raise MienError(Errors.INVALID_REQUEST, f"{file} is there already.", field="out")
    draft = file.with_name(file.name + _NEXT)
    try:
        return draft, write_segment(draft, folder, key, parts, before.isoformat())
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def shorten(draft: Path, file: Path, folder: Path, key: AnchorKey, parts: Sequence[Part]) -> None:
    """Puts a segment in its place, and takes its records out of the log.

    Args:
        draft: of the segment, whole.
        file: its place.
        folder: of the log, which may be written meanwhile.
        key: signs where the log goes on.
        parts: of the segment.

    Raises:
        MienError: somebody else has shortened the log since; nothing was done.
        OSError: a file cannot be written; the log is whole, or shortened in part.
    """
    with swapping(folder, alone=True):
        for left in folder.glob(f"*{SUFFIX}{_NEXT}"):  # of a process that was killed
            left.unlink()
        for part in parts:
            base = read_base(folder / part.file, key)
            if base is None or base.n != part.first - 1:
                raise MienError(
                    Errors.AUDIT_UNAVAILABLE, "The log was shortened meanwhile; try again."
                )
        draft.replace(file)
        _sync(file.parent)
        for part in parts:
            _cut(folder / part.file, key, part)
        _sync(folder)


def _part(file: Path, key: AnchorKey, until: str) -> Part | None:
    anchor, base = key.read(head_of(file)), read_base(file, key)
    if anchor is None or base is None:
        return None
    number, mark, end = base.n, base.hash, base.end
    for line, told in records(file):
        if told is None or str(told["at"]) >= until or number == anchor.n:
            break
        number, mark, end = number + 1, str(told["hash"]), end + len(line)
    if number == base.n:
        return None
    return Part(file.name, anchor.log, base.n + 1, number, base.hash, mark, base.end, end)


def _cut(file: Path, key: AnchorKey, part: Part) -> None:
    """Leaves of a file what follows a part, behind a line that says where it begins."""
    base = read_base(file, key)
    assert base is not None  # noqa: S101 - looked at before the first file was cut
    draft = file.with_name(file.name + _NEXT)
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _PRIVATE)
    try:
        with os.fdopen(handle, "wb") as out, file.open("rb") as opened:
            like(out.fileno(), file)
            opened.seek(part.end + base.shift)
            out.write(base_line(key, part.log, part.last, part.hash, part.end))
            shutil.copyfileobj(opened, out)
            out.flush()
            os.fsync(out.fileno())
        draft.replace(file)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
