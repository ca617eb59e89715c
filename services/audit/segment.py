"""Archived records of the audit log: one file that proves itself, and what it proves of the log.

A header tells of which files which records follow; the last line signs all before it. Each chain
begins where an earlier segment ends and ends with the record that the log goes on from.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import IO, Any

from services.audit.anchor import AnchorKey
from services.audit.base import read_base
from services.audit.record import canonical
from services.audit.verify import Checked, fault_of

_SIGNED = b"segment"
_VERSION = 1
_PRIVATE = 0o600
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Part:
    """Records of one file that are archived together.

    Attributes:
        file: its name.
        log: its id.
        first: number of the first record.
        last: number of the last one.
        prev: hash of the record before the first.
        hash: of the last record.
        start: bytes of the log before the first.
        end: bytes of the log up to the end of the last.
    """

    file: str
    log: str
    first: int
    last: int
    prev: str
    hash: str
    start: int
    end: int


@dataclass
class Segment:
    """What was found in a segment.

    Attributes:
        name: of its file.
        parts: that its header tells of.
        checked: what was found in each.
        faults: of the segment as a whole, and of how it joins others and the log.
        hashes: of all records, by file and number.
    """

    name: str
    parts: list[Part] = field(default_factory=list)
    checked: list[Checked] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    hashes: dict[tuple[str, int], str] = field(default_factory=dict)

    @property
    def holds(self) -> bool:
        """Whether nothing is wrong."""
        return not self.faults and not any(one.faults for one in self.checked)


def write_segment(
    file: Path, folder: Path, key: AnchorKey, parts: Sequence[Part], before: str
) -> str:
    """Writes records that the log has, down to the disk.

    Args:
        file: to be written; it is overwritten.
        folder: of the log.
        key: signs it.
        parts: what is archived.
        before: time that all records are older than, ISO 8601.

    Returns:
        SHA-256 of what is signed.

    Raises:
        OSError: a file cannot be read or written.
    """
    told = hashlib.sha256()
    handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _PRIVATE)
    with os.fdopen(handle, "wb") as out:

        def put(content: bytes) -> None:
            told.update(content)
            out.write(content)

        head = {"segment": _VERSION, "before": before, "parts": [asdict(one) for one in parts]}
        put(canonical(head) + b"\n")
        for part in parts:
            _copy(folder / part.file, key, part, put)
        mark = told.hexdigest()
        out.write(canonical({"sha256": mark, "mac": key.sign(_SIGNED, {"sha256": mark})}) + b"\n")
        out.flush()
        os.fsync(out.fileno())
    return mark


def verify_segment(file: Path, key: AnchorKey) -> Segment:
    """Checks a segment by itself.

    Raises:
        OSError: the file cannot be read.
    """
    found = Segment(file.name)
    with file.open("rb") as opened:
        line = opened.readline()
        told = hashlib.sha256(line)
        try:
            head = json.loads(line)
            found.parts = [_part(one) for one in head["parts"]]
            is_ours = head["segment"] == _VERSION
        except (ValueError, KeyError, TypeError):
            is_ours = False
        if not is_ours:
            found.faults.append("this is no segment of an audit log")
            return found
        for part in found.parts:
            found.checked.append(_check(opened, part, found, told))
        _check_end(opened, key, found, told.hexdigest())
    return found


def join(segments: Sequence[Segment], folder: Path, key: AnchorKey) -> None:
    """Blames segments that do not lead to each other, or to the log, without a gap.

    Args:
        segments: that hold by themselves.
        folder: of the log; what it has no file of is not looked at.
        key: of its anchors.

    Raises:
        OSError: a file of the log cannot be read.
    """
    parts = [(part, one) for one in segments for part in one.parts]
    for log in {part.log for part, _ in parts}:
        own = sorted(
            ((part, one) for part, one in parts if part.log == log), key=lambda at: at[0].first
        )
        for (earlier, of), (later, one) in pairwise(own):
            if later.first > earlier.last + 1:
                one.faults.append(f"{later.file}: records before {later.first} are in no segment")
            elif of.hashes.get((log, later.first - 1), later.prev) != later.prev:
                one.faults.append(f"{later.file}: does not follow {of.name}")
        last, one = max(own, key=lambda at: at[0].last)
        if not (folder / last.file).exists():
            continue
        base = read_base(folder / last.file, key)
        if base is None or base.log not in ("", log):
            one.faults.append(f"{last.file}: the log does not go on from it")
        elif base.n > last.last:
            one.faults.append(f"{last.file}: records {last.last + 1} to {base.n} are in no segment")
        elif base.n and one.hashes.get((log, base.n)) not in (None, base.hash):
            one.faults.append(f"{last.file}: the log does not go on from it")


def _part(told: Mapping[str, Any]) -> Part:
    return Part(
        file=str(told["file"]),
        log=str(told["log"]),
        first=int(told["first"]),
        last=int(told["last"]),
        prev=str(told["prev"]),
        hash=str(told["hash"]),
        start=int(told["start"]),
        end=int(told["end"]),
    )


def _copy(file: Path, key: AnchorKey, part: Part, put: Callable[[bytes], None]) -> None:
    base = read_base(file, key)
    if base is None or base.end != part.start:
        raise OSError(f"{file.name} was shortened meanwhile")
    left = part.end - part.start
    with file.open("rb") as opened:
        opened.seek(part.start + base.shift)
        while left:
            content = opened.read(min(left, _BLOCK))
            if not content:
                raise OSError(f"{file.name} ends too early")
            put(content)
            left -= len(content)


def _check(opened: IO[bytes], part: Part, found: Segment, told: Any) -> Checked:
    checked, before = Checked(part.file, archived=part.first - 1, head=part.prev), part.prev
    for number in range(part.first, part.last + 1):
        line = opened.readline()
        if not line:
            checked.blame(number, "records are missing")
            return checked
        told.update(line)
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        record = record if isinstance(record, dict) else None
        if fault := fault_of(line, record, number, before):
            checked.blame(number, fault)
        before = "" if record is None else str(record.get("hash", ""))
        found.hashes[part.log, number] = before
        checked.records += 1
    checked.head, checked.anchored = before, part.last
    if before != part.hash:
        checked.blame(part.last, "is not the one that the header tells of")
    return checked


def _check_end(opened: IO[bytes], key: AnchorKey, found: Segment, mark: str) -> None:
    line = opened.readline()
    try:
        end = json.loads(line)
        mac, signed = str(end["mac"]), str(end["sha256"])
    except (ValueError, KeyError, TypeError):
        found.faults.append("its end is missing")
        return
    if line != canonical({"sha256": signed, "mac": mac}) + b"\n" or opened.read(1):
        found.faults.append("its end is not as it was written")
    if signed != mark or not hmac.compare_digest(mac, key.sign(_SIGNED, {"sha256": mark})):
        found.faults.append("its signature is wrong")
