"""Keeps embeddings between runs, by the picture's hash and everything that made the vector."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from services import gateway

Vector = NDArray[np.float32]


class EmbeddingCache:
    """One file for each way of making vectors; a picture without a face is remembered too.

    The vectors are biometric data: the folder must be guarded like the pictures themselves.

    Args:
        folder: where the files lie; None keeps nothing.
        recipe: everything that the vectors depend on, apart from the picture.
        dimension: length of the vectors.
    """

    def __init__(self, folder: Path | None, recipe: dict[str, object], dimension: int) -> None:
        canonical = json.dumps(recipe, sort_keys=True, default=str)
        name = hashlib.sha256(canonical.encode()).hexdigest()[:32]
        self._file = None if folder is None else folder / f"{name}.npz"
        self._dimension = dimension
        self._known: dict[str, Vector | None] = {}
        self._changed = False
        if self._file is not None and self._file.exists():
            self._load(self._file)

    def __contains__(self, key: str) -> bool:
        return key in self._known

    def __getitem__(self, key: str) -> Vector | None:
        return self._known[key]

    def put(self, key: str, vector: Vector | None) -> None:
        """Remembers a picture's vector, or that it shows no face."""
        self._known[key] = vector
        self._changed = True

    def save(self) -> None:
        """Writes what is new, replacing the file in one step."""
        if self._file is None or not self._changed:
            return
        keys = list(self._known)
        found = np.array([self._known[key] is not None for key in keys])
        vectors = np.zeros((len(keys), self._dimension), np.float32)
        for row, key in enumerate(keys):
            vector = self._known[key]
            if vector is not None:
                vectors[row] = vector
        self._file.parent.mkdir(parents=True, exist_ok=True)
        draft = self._file.with_suffix(".part")
        with draft.open("wb") as file:
            np.savez(file, keys=np.array(keys, dtype="U64"), found=found, vectors=vectors)
        draft.replace(self._file)
        self._changed = False

    def _load(self, file: Path) -> None:
        try:
            with np.load(file, allow_pickle=False) as stored:
                keys, found, vectors = stored["keys"], stored["found"], stored["vectors"]
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
            return  # damaged: it is made again
        if vectors.shape != (len(keys), self._dimension) or found.shape != (len(keys),):
            return
        for key, is_found, vector in zip(keys, found, vectors, strict=True):
            self._known[str(key)] = vector if is_found else None


def pipeline_sha256() -> str:
    """Hash of the code between a picture and its crop, so that no old vector is reused."""
    folder = Path(gateway.__file__).parent
    digest = hashlib.sha256()
    for path in sorted([*folder.glob("*.py"), *folder.glob("imaging/*.py")]):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def picture_key(data: bytes) -> str:
    """The key of a picture: SHA-256 of its file."""
    return hashlib.sha256(data).hexdigest()
