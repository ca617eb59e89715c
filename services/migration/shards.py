"""Parquet shards of a migration: vectors that wait for the map, and what it made of them.

A shard holds sequence numbers and vectors, no names and no ids. It is named by the first and last
number of the stretch of the source that it was made of. Files appear under their name when they are
whole, so whoever is killed leaves none that is broken.
"""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.gallery import Template
from services.gallery.values import Vector
from services.settings import SettingsError

_SEQUENCE, _VECTOR, _CONFIDENCE = "sequence", "vector", "confidence"
_SOURCE, _MAPPED = "source", "mapped"
_NAME = re.compile(r"source-(\d{20})-(\d{20})\.parquet")
_PRIVATE = 0o700

Numbers = NDArray[np.int64]
Confidences = NDArray[np.float32]


class Shards:
    """The shards of one migration in one folder.

    Args:
        folder: of this migration and this map alone; made if it is missing.

    Raises:
        SettingsError: pyarrow is not installed.
    """

    def __init__(self, folder: Path) -> None:
        _parquet()
        folder.mkdir(parents=True, exist_ok=True, mode=_PRIVATE)
        self._folder = folder
        self._read: tuple[int, int] = (0, -1)
        self._rows: dict[int, tuple[Vector, float]] = {}

    @property
    def end(self) -> int:
        """The sequence number that shards reach up to; 0 without any."""
        return max((last for _, last in self._ranges()), default=0)

    def unmapped(self) -> list[Path]:
        """Shards that the map has not been through, in order."""
        found = [self._path(_SOURCE, one) for one in self._ranges()]
        return [path for path in found if not mapped_file(path).exists()]

    def put(self, after: int, last: int, numbers: Sequence[int], vectors: Vector) -> None:
        """Writes a shard of the source.

        Args:
            after: sequence number before the stretch.
            last: sequence number that it ends with.
            numbers: of its native templates.
            vectors: theirs, N x dimension, as a map takes them.
        """
        path = self._path(_SOURCE, (after + 1, last))
        _write(path, {_SEQUENCE: np.array(numbers, np.int64), _VECTOR: vectors})

    async def look(self, templates: Sequence[Template]) -> list[tuple[Vector, float] | None]:
        """What the map made of templates, by their sequence numbers; None for those in no shard."""
        return await asyncio.to_thread(lambda: [self._of(one.sequence) for one in templates])

    def delete(self) -> None:
        """Deletes the shards: they hold faces."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _of(self, number: int) -> tuple[Vector, float] | None:
        # Templates come in order, so that one shard at a time is held.
        if not self._read[0] <= number <= self._read[1]:
            for one in self._ranges():
                path = self._path(_MAPPED, one)
                if one[0] <= number <= one[1] and path.exists():
                    numbers, vectors, trust = read_mapped(path)
                    rows = zip(vectors, trust.tolist(), strict=True)
                    self._rows = dict(zip(numbers.tolist(), rows, strict=True))
                    self._read = one
                    break
            else:
                return None
        return self._rows.get(number)

    def _ranges(self) -> list[tuple[int, int]]:
        named = (_NAME.fullmatch(path.name) for path in self._folder.iterdir())
        return sorted((int(one[1]), int(one[2])) for one in named if one)

    def _path(self, kind: str, one: tuple[int, int]) -> Path:
        return self._folder / f"{kind}-{one[0]:020}-{one[1]:020}.parquet"


def mapped_file(source: Path) -> Path:
    """Where the map's answers to a shard are kept."""
    return source.with_name(source.name.replace(_SOURCE, _MAPPED, 1))


def read_source(path: Path) -> tuple[Numbers, Vector]:
    """Sequence numbers and vectors of a shard."""
    table = _parquet().read_table(path)
    return table[_SEQUENCE].to_numpy(), _rows(table, _VECTOR)


def write_mapped(path: Path, numbers: Numbers, vectors: Vector, confidences: Confidences) -> None:
    """Writes what the map made of a shard."""
    _write(path, {_SEQUENCE: numbers, _VECTOR: vectors, _CONFIDENCE: confidences})


def read_mapped(path: Path) -> tuple[Numbers, Vector, Confidences]:
    """Sequence numbers, vectors of the target, and confidences."""
    table = _parquet().read_table(path)
    trust = table[_CONFIDENCE].to_numpy()
    return table[_SEQUENCE].to_numpy(), _rows(table, _VECTOR), trust


def _rows(table: Any, column: str) -> Vector:
    chunk = table[column].combine_chunks()
    flat: Vector = chunk.flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(len(chunk), -1) if len(chunk) else flat.reshape(0, 0)


def _write(path: Path, columns: dict[str, NDArray[np.generic]]) -> None:
    import pyarrow as pa  # noqa: PLC0415 - an extra

    made = {}
    for name, values in columns.items():
        if values.ndim == 1:
            made[name] = pa.array(values)
        else:
            flat = pa.array(np.ascontiguousarray(values).reshape(-1))
            made[name] = pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
    draft = path.with_suffix(".draft")
    _parquet().write_table(pa.table(made), draft)
    draft.replace(path)


def _parquet() -> Any:
    try:
        from pyarrow import parquet  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise SettingsError("Shards of a migration need: pip install 'mien[ray]'") from error
    return parquet
