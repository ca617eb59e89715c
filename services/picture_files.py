"""Which files are pictures, by their names, and all of them below a folder."""

from __future__ import annotations

import os
from pathlib import Path

PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".heic"})
"""In lower case."""


def pictures_below(root: Path) -> list[Path]:
    """All pictures below a folder, sorted; folders that are links count as others do.

    A folder to which several ways lead, also one from within itself, is looked through once.
    """
    found: list[Path] = []
    seen: set[str] = set()
    for folder, folders, files in os.walk(root, followlinks=True):
        folders.sort()
        real = os.path.realpath(folder)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        found += [Path(folder, name) for name in files if is_picture(Path(name))]
    return sorted(found)


def is_picture(path: Path) -> bool:
    """Whether a file's name says so."""
    return path.suffix.lower() in PICTURE_SUFFIXES
