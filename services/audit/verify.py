"""Verification of the audit log: every record, every chain, every anchor."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from services.audit.anchor import Anchor, AnchorKey, unsigned
from services.audit.base import Base, base_of, is_base
from services.audit.log import STEM, SUFFIX, head_of, log_files
from services.audit.record import START, Action, canonical, hash_of

_MOST_FAULTS = 20  # told of one file: after the first, those that follow say little


@dataclass
class Checked:
    """What was found in one file.

    Attributes:
        file: its name.
        archived: records before them that are in archives.
        records: whole records that it has.
        head: hash of the last one.
        anchored: number of the newest record that is signed; 0 without an anchor.
        faults: number of the line (0: the file) and what is wrong there.
    """

    file: str
    archived: int = 0
    records: int = 0
    head: str = START
    anchored: int = 0
    faults: list[tuple[int, str]] = field(default_factory=list)

    def blame(self, line: int, why: str) -> None:
        """Adds a fault, unless there are many already."""
        if len(self.faults) < _MOST_FAULTS:
            self.faults.append((line, why))


@dataclass(frozen=True)
class Chain:
    """The hashes of a file's records.

    Attributes:
        base: of the record before the first.
        hashes: from the first record on.
    """

    base: Base
    hashes: list[str] = field(default_factory=list)

    @property
    def head(self) -> str:
        """Hash of the last record."""
        return self.hashes[-1] if self.hashes else self.base.hash

    @property
    def count(self) -> int:
        """Number of the last record."""
        return self.base.n + len(self.hashes)

    def at(self, number: int) -> str | None:
        """Hash of a record; empty where there is none, None where it is archived."""
        if number < self.base.n:
            return None
        if number == self.base.n:
            return self.base.hash
        return self.hashes[number - self.base.n - 1] if number <= self.count else ""


@dataclass
class Verdict:
    """What was found in a log.

    Attributes:
        files: each with its faults.
        missing: names of files that were there once.
        head_found: whether the hash that was asked for is that of a record; None if none was.
    """

    files: list[Checked]
    missing: list[str]
    head_found: bool | None

    @property
    def holds(self) -> bool:
        """Whether nothing is wrong."""
        faults = any(one.faults for one in self.files)
        return not faults and not self.missing and self.head_found is not False


def verify(folder: Path, key: AnchorKey, head: str = "") -> Verdict:
    """Checks a log, which may be written meanwhile.

    Args:
        folder: of the log.
        key: of its anchors.
        head: hash of a record that must be there, as noted earlier somewhere else.
    """
    files = log_files(folder)
    known: dict[str, Chain] = {}
    claims: list[tuple[str, str, int, str]] = []
    checked = [_check(file, key, known, claims) for file in files]
    found = {file.name for file in files}
    highest = max((_number(name) for name in found), default=0)
    missing = {_name(number) for number in range(1, highest + 1)} - found
    by_name = {one.file: one for one in checked}
    for name, other, number, mark in claims:
        if other not in found:
            missing.add(other)
        elif number and known[other].at(number) not in (None, mark):
            by_name[other].blame(number, f"{name} saw another record here")
    heads = (head in one.hashes or (one.base.n and head == one.base.hash) for one in known.values())
    head_found = any(heads) if head else None
    return Verdict(checked, sorted(missing), head_found)


def records(file: Path) -> Iterator[tuple[bytes, dict[str, Any] | None]]:
    """The whole lines of a file, each with its record; None for a line that holds none."""
    with file.open("rb") as opened:
        for at, (line, told) in enumerate(_lines(opened)):
            if at or told is None or not is_base(told):
                yield line, told


def _lines(opened: IO[bytes]) -> Iterator[tuple[bytes, dict[str, Any] | None]]:
    for line in opened:
        if not line.endswith(b"\n"):
            return  # is being written, or a process was killed over it
        try:
            told = json.loads(line)
        except ValueError:
            told = None
        yield line, told if isinstance(told, dict) else None


def _check(
    file: Path,
    key: AnchorKey,
    known: dict[str, Chain],
    claims: list[tuple[str, str, int, str]],
) -> Checked:
    checked = Checked(file.name)
    # First: records that come while the file is read are behind this anchor.
    anchor = _anchor(file, key, checked)
    with file.open("rb") as opened:  # once: another may soon be in its place
        base = base_of(opened, key)
        if base is None:
            checked.blame(0, "the end of what was archived is not signed")
        found = known.setdefault(file.name, Chain(base or Base()))
        log = _check_chain(_lines(opened), found, checked, claims)
    checked.archived, checked.records, checked.head = found.base.n, len(found.hashes), found.head
    if anchor is not None and anchor.n < found.base.n:
        anchor = key.read(head_of(file))  # it may have been shortened since
    if anchor is not None:
        checked.anchored = anchor.n
        if log and anchor.log != log:
            checked.blame(0, "the anchor is of another file")
        if anchor.n < found.base.n:
            checked.blame(0, "the anchor is older than what was archived")
        elif found.at(anchor.n) != anchor.hash:
            why = "is missing" if anchor.n > found.count else "is not the one that was signed"
            checked.blame(0, f"record {anchor.n} {why}")
    return checked


def _check_chain(
    lines: Iterable[tuple[bytes, dict[str, Any] | None]],
    found: Chain,
    checked: Checked,
    claims: list[tuple[str, str, int, str]],
) -> str:
    """Follows a chain, and gathers its records' hashes and what they saw; gives the log's id."""
    log = found.base.log
    for number, (line, told) in enumerate(lines, start=found.base.n + 1):
        fault = fault_of(line, told, number, found.head)
        if fault:
            checked.blame(number, fault)
        found.hashes.append(str(told.get("hash", "")) if told is not None else "")
        if told is None or told.get("action") != Action.LOG_OPEN.value:
            if number == 1:
                checked.blame(number, "the file's beginning is missing")
            continue
        about = told.get("about")
        if not fault and isinstance(about, dict):
            log = log or str(about["log"])
            claims += [
                (checked.file, other, at["n"], at["hash"]) for other, at in about["others"].items()
            ]
    return log


def fault_of(line: bytes, told: dict[str, Any] | None, number: int, before: str) -> str:
    """What is wrong with a record; empty for nothing.

    Args:
        line: of the file.
        told: the record; None if the line holds none.
        number: that it must have.
        before: hash of the record before it.
    """
    if told is None:
        return "the line is no record"
    if told.get("n") != number:
        return "records are missing or out of order"
    if told.get("prev") != before:
        return "does not follow the record before it"
    if told.get("hash") != hash_of(told) or line != canonical(told) + b"\n":
        return "the record was changed"
    return ""


def _anchor(file: Path, key: AnchorKey, checked: Checked) -> Anchor | None:
    anchor = key.read(head_of(file))
    if anchor is None:
        there = unsigned(head_of(file)) is not None
        checked.blame(0, "the anchor's signature is wrong" if there else "there is no anchor")
    return anchor


def _number(name: str) -> int:
    digits = name.removeprefix(STEM).removesuffix(SUFFIX)
    return int(digits) if digits.isdigit() else 0


def _name(number: int) -> str:
    return f"{STEM}{number:04d}{SUFFIX}"
