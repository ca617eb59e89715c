"""Reads lists of picture pairs."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

_COLUMNS = ("fold", "path1", "path2", "same")


class PairsError(Exception):
    """The list of pairs, or a picture that it names, cannot be used; the message says where."""


@dataclass(frozen=True)
class Pair:
    """Two pictures, whether they show the same person, and the fold that the pair belongs to."""

    fold: str
    path1: str
    path2: str
    same: bool


def read_pairs(file: Path) -> list[Pair]:
    """Reads a TSV file with the header ``fold path1 path2 same``; ``same`` is 1 or 0.

    Raises:
        PairsError: names the line at fault.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise PairsError(f"{file} cannot be read.") from error
    reader = csv.DictReader(text.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE)
    if not reader.fieldnames or any(column not in reader.fieldnames for column in _COLUMNS):
        raise PairsError(f"{file}: the header must name {', '.join(_COLUMNS)}, split by tabs.")
    pairs = []
    for row in reader:
        if any(not row[column] for column in _COLUMNS) or row["same"] not in ("0", "1"):
            raise PairsError(
                f"{file}, line {reader.line_num}: expected fold, two paths and 0 or 1."
            )
        pairs.append(Pair(row["fold"], row["path1"], row["path2"], row["same"] == "1"))
    if not pairs:
        raise PairsError(f"{file} holds no pairs.")
    return pairs


def person_of(path: str) -> str:
    """The person in a picture: the folder that it lies in, seen from the pictures' root."""
    return Path(path).parts[0]
