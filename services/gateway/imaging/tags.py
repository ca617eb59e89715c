"""The directory structure that TIFF files and EXIF blocks share."""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

ORIENTATION: Final = 0x0112
UPRIGHT: Final = 1

_SIZES: Mapping[int, int] = {
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 8,
    6: 1,
    7: 1,
    8: 2,
    9: 4,
    10: 8,
    11: 4,
    12: 8,
}
"""Bytes of one value of each field type (TIFF 6.0, section 2)."""

_INTEGERS: Mapping[int, str] = {1: "B", 3: "H", 4: "I"}
_ENTRY_BYTES = 12
_INLINE_BYTES = 4
_EXIF_PREFIX = b"Exif\0\0"


@dataclass(frozen=True, slots=True)
class Entry:
    """One field: type, number of values, where they lie, and its twelve bytes as they stand."""

    kind: int
    count: int
    start: int
    raw: bytes

    @property
    def size(self) -> int:
        """Bytes of the values; an unknown type counts one byte a value."""
        return _SIZES.get(self.kind, 1) * self.count


@dataclass(frozen=True, slots=True)
class Directory:
    """Fields by tag (the first of each tag counts), their bytes in all, and the next directory."""

    entries: Mapping[int, Entry]
    value_bytes: int
    following: int


def byte_order(block: bytes) -> str | None:
    """The ``struct`` prefix for a classic TIFF header, or None where there is none."""
    return {b"II*\0": "<", b"MM\0*": ">"}.get(block[:4])


def first_directory(block: bytes, order: str) -> int:
    """Offset of the first directory; 0 when the header is cut off."""
    return int(struct.unpack_from(order + "I", block, 4)[0]) if len(block) >= 8 else 0


def read_directory(block: bytes, offset: int, order: str) -> Directory | None:
    """The directory at an offset, or None when it does not lie wholly inside the block."""
    if offset < 8 or offset + 2 > len(block):
        return None
    (count,) = struct.unpack_from(order + "H", block, offset)
    end = offset + 2 + count * _ENTRY_BYTES
    if end > len(block):
        return None
    entries: dict[int, Entry] = {}
    value_bytes = 0
    for at in range(offset + 2, end, _ENTRY_BYTES):
        tag, kind, values, where = struct.unpack_from(order + "HHII", block, at)
        size = _SIZES.get(kind, 1) * values
        start = at + 8 if size <= _INLINE_BYTES else where
        value_bytes += size
        entries.setdefault(tag, Entry(kind, values, start, block[at : at + _ENTRY_BYTES]))
    # Some writers leave the last offset out at the end of the block.
    has_following = end + 4 <= len(block)
    following = struct.unpack_from(order + "I", block, end)[0] if has_following else 0
    return Directory(entries, value_bytes, following)


def integers(block: bytes, entry: Entry | None, order: str, most: int = 16) -> tuple[int, ...]:
    """The unsigned integers of a field; () when absent, of another type, too many or cut off."""
    if entry is None or entry.kind not in _INTEGERS or entry.count > most:
        return ()
    if entry.start + entry.size > len(block):
        return ()
    return struct.unpack_from(f"{order}{entry.count}{_INTEGERS[entry.kind]}", block, entry.start)


def exif_orientation(block: bytes) -> int:
    """The orientation (1 to 8, EXIF 2.3 table 4) in an EXIF block; 1 when it says nothing usable.

    A damaged EXIF block does not make the picture unreadable, so it counts as "upright".
    """
    block = block.removeprefix(_EXIF_PREFIX)
    order = byte_order(block)
    if order is None:
        return UPRIGHT
    directory = read_directory(block, first_directory(block, order), order)
    return orientation_of(block, directory, order) if directory else UPRIGHT


def orientation_of(block: bytes, directory: Directory, order: str) -> int:
    """The orientation in a directory that was read already; 1 when it says nothing usable."""
    values = integers(block, directory.entries.get(ORIENTATION), order)
    return values[0] if values and 1 <= values[0] <= 8 else UPRIGHT
