"""Keeps what is dear to build: engine plans and what belongs to them, sealed against damage."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, get_args

import platformdirs
from pydantic import AwareDatetime, BaseModel, ConfigDict

from services.runtime.engine import EngineError
from services.telemetry import get_logger

_log = get_logger(__name__)

Kind = Literal["plan", "timing", "runtime", "calibration"]

# A file is: this line; the length of the header as 8 hex digits and a newline; the header, which is
# JSON; the bytes themselves. Another layout gets another number.
_MAGIC = b"MIEN SEALED 1\n"
_LENGTH_BYTES = 9
_HEADER_LIMIT = 1 << 20


class DamagedError(Exception):
    """A file is not what was written: cut short, altered, or of another layout."""


@dataclass(frozen=True)
class PlanKey:
    """All that a plan depends on. When any part differs, it is another plan.

    Attributes:
        model_sha256: of the model file.
        engine: module and version, for example "tensorrt_rtx 1.7.1.116".
        device: its name, or "any" for a plan that fits every device of the compute capability.
        compute_capability: for example "8.0".
        precision: "fp32", "fp16", "bf16" or "int8".
        shapes: the inputs' names and ranges of shapes.
        calibration: SHA-256 of the calibration inputs; empty without them.
        kind: the plan itself, or something that belongs to it.
    """

    model_sha256: str
    engine: str
    device: str
    compute_capability: str
    precision: str
    shapes: str
    calibration: str = ""
    kind: Kind = "plan"

    @property
    def digest(self) -> str:
        """SHA-256 over all parts."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    @property
    def file_name(self) -> str:
        """The model's hash first, so that a model's files stand together."""
        return f"{self.model_sha256[:12] or 'shared'}-{self.digest[:20]}.{self.kind}"


@dataclass(frozen=True)
class CacheEntry:
    """One file of the cache.

    Attributes:
        path: the file.
        key: what it was built for; None if the file is damaged.
        size: bytes of the file.
        created: when it was written; None if the file is damaged.
    """

    path: Path
    key: PlanKey | None
    size: int
    created: datetime | None


class PlanCache:
    """A folder of sealed files, each named by its key.

    Several processes may share it: a file appears whole or not at all, and two that build the same
    plan at once write the same thing twice.

    Args:
        folder: created when something is first written.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or default_folder()

    def path(self, key: PlanKey) -> Path:
        """Where a key's file is or would be."""
        return self.folder / key.file_name

    def get(self, key: PlanKey) -> bytes | None:
        """What was kept for a key. A damaged file is reported, removed and counts as missing."""
        path = self.path(key)
        try:
            kept, content = _unseal(path.read_bytes())
        except FileNotFoundError:
            return None
        except DamagedError as error:
            self.discard(key, str(error))
            return None
        if kept != key:
            self.discard(key, "it was written for another key")
            return None
        return content

    def put(self, key: PlanKey, content: bytes) -> Path:
        """Keeps something, in place of what was there."""
        path = self.path(key)
        write_atomically(path, _seal(key, content))
        return path

    def discard(self, key: PlanKey, why: str) -> None:
        """Removes a file that cannot be used, with a warning."""
        _log.warning(
            "cached engine file discarded; it will be built again",
            file=key.file_name,
            kind=key.kind,
            engine=key.engine,
            why=why,
        )
        self.path(key).unlink(missing_ok=True)

    def entries(self) -> list[CacheEntry]:
        """All files, those of versions, devices and models no longer used too, oldest first."""
        found = list(self._read_headers())
        oldest = datetime.min.replace(tzinfo=UTC)
        return sorted(found, key=lambda entry: (entry.created or oldest, entry.path.name))

    def remove(self, entry: CacheEntry) -> None:
        """Deletes one file."""
        entry.path.unlink(missing_ok=True)

    def _read_headers(self) -> Iterator[CacheEntry]:
        for path in (path for kind in get_args(Kind) for path in self.folder.glob(f"*.{kind}")):
            size = path.stat().st_size
            with path.open("rb") as file:
                start = file.read(_HEADER_LIMIT)
            try:
                header, _ = _read_header(start)
            except DamagedError:
                yield CacheEntry(path, None, size, None)
            else:
                yield CacheEntry(path, header.key, size, header.created)


def default_folder() -> Path:
    """Where plans are kept if nobody says otherwise."""
    return Path(platformdirs.user_cache_dir("mien")) / "engines"


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, lower-case hex.

    Raises:
        EngineError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise EngineError(f"{path.name} cannot be read.") from error


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file so that a reader sees the old one or the whole new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


class _Header(BaseModel):
    """What stands before the content of a sealed file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    key: PlanKey
    sha256: str
    size: int
    created: AwareDatetime


def _seal(key: PlanKey, content: bytes) -> bytes:
    header = _Header(
        key=key,
        sha256=hashlib.sha256(content).hexdigest(),
        size=len(content),
        created=datetime.now(UTC),
    )
    encoded = header.model_dump_json().encode()
    return b"".join((_MAGIC, f"{len(encoded):08x}\n".encode(), encoded, content))


def _unseal(sealed: bytes) -> tuple[PlanKey, bytes]:
    header, start = _read_header(sealed)
    content = sealed[start:]
    if len(content) != header.size:
        raise DamagedError(f"it holds {len(content)} bytes where {header.size} were written")
    if hashlib.sha256(content).hexdigest() != header.sha256:
        raise DamagedError("its content does not have the hash it was written with")
    return header.key, content


def _read_header(sealed: bytes) -> tuple[_Header, int]:
    """The header, and where the content begins."""
    start = len(_MAGIC) + _LENGTH_BYTES
    if not sealed.startswith(_MAGIC) or len(sealed) < start:
        raise DamagedError("it does not begin like a file of this cache")
    try:
        length = int(sealed[len(_MAGIC) : start], 16)
        header = _Header.model_validate_json(sealed[start : start + length])
    except ValueError as error:  # of which pydantic's own is one
        raise DamagedError("its header cannot be read") from error
    return header, start + length
