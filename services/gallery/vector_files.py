"""Reads files of vectors row by row: npy with ids beside it, CSV, Parquet. Nothing is unpickled."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from services.gallery.values import Vector

SUBJECT, TEMPLATE, VECTOR = "subject_id", "template_id", "vector"
_ROWS_AT_ONCE = 1000
_LONGEST_FIELD = 1 << 20  # characters: a vector of 4096 numbers written out is far shorter


class VectorFileError(Exception):
    """The file as a whole cannot be read; the message says why."""


@dataclass(frozen=True, eq=False)
class FileRow:
    """One row of a file.

    Attributes:
        number: of the row, from 1; a header does not count.
        subject_id: whose vector it is.
        template_id: empty where the file names none.
        vector: float32 of any length; None where the row holds none.
        fault: why it holds none.
    """

    number: int
    subject_id: str
    template_id: str = ""
    vector: Vector | None = field(default=None, repr=False)
    fault: str = ""


def read_rows(file: Path, ids: Path | None) -> Iterator[FileRow]:
    """Reads a file of vectors.

    Args:
        file: ``.npy`` (N x dimension, mapped and not read whole), ``.csv`` (columns ``subject_id``,
            ``template_id`` if wanted, and the numbers in ``vector`` parted by spaces, or one to a
            column in all that are left) or ``.parquet`` (``subject_id``, ``template_id`` if wanted,
            ``vector``: lists of numbers).
        ids: of a ``.npy``: CSV with a row for each vector, ``subject_id`` and ``template_id``.

    Yields:
        The rows in order, those with faults among them.

    Raises:
        VectorFileError: it is of another kind, or not as said.
    """
    kind = file.suffix.lower()
    if (kind == ".npy") != (ids is not None):
        raise VectorFileError("Ids in a file of their own belong to .npy, and only to .npy.")
    if kind == ".npy" and ids is not None:
        yield from _npy(file, ids)
    elif kind == ".csv":
        yield from _csv(file)
    elif kind in {".parquet", ".pq"}:
        yield from _parquet(file)
    else:
        raise VectorFileError(f"{file.name} is neither .npy nor .csv nor .parquet.")


def _npy(file: Path, ids: Path) -> Iterator[FileRow]:
    try:
        vectors = np.load(file, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise VectorFileError(f"{file.name} is no .npy file of plain numbers.") from error
    if vectors.ndim != 2 or vectors.dtype.kind not in "fiu":
        raise VectorFileError(f"{file.name} does not hold one row of numbers for each vector.")
    names = list(_named(ids))
    if len(names) != len(vectors):
        raise VectorFileError(f"{ids.name} has {len(names)} rows, {file.name} {len(vectors)}.")
    for number, (vector, row) in enumerate(zip(vectors, names, strict=True), start=1):
        made = np.asarray(vector, np.float32)
        yield FileRow(number, row[SUBJECT], row.get(TEMPLATE) or "", made)


def _named(file: Path) -> Iterator[dict[str, str]]:
    """The rows of a CSV file by column; short rows have empty cells."""
    csv.field_size_limit(_LONGEST_FIELD)
    with file.open(encoding="utf-8-sig", newline="") as opened:
        try:
            reader = csv.DictReader(opened, restval="", restkey="")
            if SUBJECT not in (reader.fieldnames or ()):
                raise VectorFileError(f"{file.name} has no column {SUBJECT}.")
            yield from reader
        except (csv.Error, UnicodeDecodeError) as error:
            raise VectorFileError(f"{file.name} is no CSV file in UTF-8.") from error


def _csv(file: Path) -> Iterator[FileRow]:
    for number, row in enumerate(_named(file), start=1):
        surplus = row.pop("", "")  # cells behind the last column
        subject, template = row.pop(SUBJECT), row.pop(TEMPLATE, "")
        cells = row[VECTOR].split() if VECTOR in row else list(row.values())
        try:
            made = np.array([float(cell) for cell in (*cells, *surplus)], np.float32)
        except ValueError:
            yield FileRow(number, subject, template, fault="a number cannot be read")
        else:
            yield FileRow(number, subject, template, made)


def _parquet(file: Path) -> Iterator[FileRow]:
    try:
        import pyarrow as pa  # noqa: PLC0415 - an extra
        from pyarrow import parquet  # noqa: PLC0415
    except ImportError as error:
        raise VectorFileError("Parquet files need: pip install 'mien[gallery-import]'") from error
    number = 0
    try:
        with parquet.ParquetFile(file) as opened:
            there = set(opened.schema_arrow.names)
            if not {SUBJECT, VECTOR} <= there:
                raise VectorFileError(f"{file.name} has no columns {SUBJECT} and {VECTOR}.")
            columns = [name for name in (SUBJECT, TEMPLATE, VECTOR) if name in there]
            for batch in opened.iter_batches(_ROWS_AT_ONCE, columns=columns):
                for row in batch.to_pylist():
                    number += 1
                    yield _parquet_row(number, row)
    except pa.ArrowException as error:
        raise VectorFileError(f"{file.name} is no Parquet file that can be read.") from error


def _parquet_row(number: int, row: dict[str, Any]) -> FileRow:
    subject, template = str(row[SUBJECT] or ""), str(row.get(TEMPLATE) or "")
    try:
        made = np.array(row[VECTOR], np.float32)
    except (TypeError, ValueError):
        return FileRow(number, subject, template, fault="a number cannot be read")
    return FileRow(number, subject, template, made)
