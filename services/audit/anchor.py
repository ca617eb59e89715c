"""Anchors: the newest record of each file, signed, so that a cut or rewritten file is found.

The chain alone is found out by nobody if its end is cut off, or if all of it is written anew. So a
small file beside each log tells number and hash of a recent record, under an HMAC whose key is kept
wrapped by the gallery's master key: whoever has the files alone cannot sign another end.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import hmac
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from services.audit.record import canonical
from services.errors import Errors, MienError
from services.gallery.embedded.keys import new_key
from services.gallery.embedded.wrapping import KeyWrapper

_KEY_FILE = "anchor.key"
_PLACE = "audit"
_PRIVATE = 0o600
_PSEUDONYM_DIGITS = 32
_HASHED = "hashed:"


@dataclass(frozen=True)
class Anchor:
    """The newest signed record of a file.

    Attributes:
        log: id of the file, from its first record.
        n: number of the record.
        hash: of the record.
        end: bytes of the file up to the end of the record.
    """

    log: str
    n: int
    hash: str
    end: int


class AnchorKey:
    """Signs anchors, and makes pseudonyms of subjects.

    Args:
        key: 32 bytes.
    """

    def __init__(self, key: bytes) -> None:
        self.secret = key

    def write(self, file: Path, anchor: Anchor) -> None:
        """Puts a signed anchor in the place of the earlier one, down to the disk.

        Raises:
            OSError: it cannot be written.
        """
        told = asdict(anchor)
        put(file, canonical({**told, "mac": self._mac(told)}) + b"\n")

    def read(self, file: Path) -> Anchor | None:
        """A file's anchor; None where there is none, or its signature does not hold."""
        told = unsigned(file)
        if told is None:
            return None
        anchor, mac = told
        return anchor if hmac.compare_digest(mac, self._mac(asdict(anchor))) else None

    def pseudonym(self, tenant: str, subject: str) -> str:
        """What stands for a subject: the same each time, and told by nobody without the key."""
        key = hmac.new(self.secret, b"subjects", hashlib.sha256).digest()
        mark = hmac.new(key, f"{tenant}\x1f{subject}".encode(), hashlib.sha256).hexdigest()
        return _HASHED + mark[:_PSEUDONYM_DIGITS]

    def sign(self, kind: bytes, told: dict[str, object]) -> str:
        """The signature of something that is told.

        Args:
            kind: of what is told: what was signed as one kind is not taken as another.
            told: for JSON.
        """
        return hmac.new(self.secret, kind + canonical(told), hashlib.sha256).hexdigest()

    def _mac(self, told: dict[str, object]) -> str:
        return self.sign(b"anchor", told)


def unsigned(file: Path) -> tuple[Anchor, str] | None:
    """An anchor as it stands in its file, with its signature unchecked; None if it is none."""
    try:
        told = json.loads(file.read_bytes())
        mac = str(told.pop("mac"))
        return Anchor(str(told["log"]), int(told["n"]), str(told["hash"]), int(told["end"])), mac
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def load_key(folder: Path, masters: Sequence[KeyWrapper]) -> AnchorKey:
    """The key of a folder's anchors; made if the folder has none.

    Raises:
        MienError: AUDIT_UNAVAILABLE; no master key unwraps it, or it cannot be written.
    """
    file = folder / _KEY_FILE
    try:
        if not file.exists():
            _make(file, masters[0])
        kept = _wrapped(file)
    except (OSError, ValueError, KeyError, binascii.Error) as error:
        raise MienError(
            Errors.AUDIT_UNAVAILABLE, "The key of the audit log's anchors cannot be read."
        ) from error
    failure: MienError | None = None
    for wrapped in kept:
        for master in masters:
            try:
                return AnchorKey(master.unwrap(wrapped, _PLACE))
            except MienError as error:
                failure = error
    raise MienError(
        Errors.AUDIT_UNAVAILABLE, "The audit log's anchors were signed under another master key."
    ) from failure


@contextlib.contextmanager
def rewrapped(folder: Path, old: Sequence[KeyWrapper], new: KeyWrapper) -> Iterator[None]:
    """Keeps the key of the anchors readable while the master key changes.

    Inside the block both master keys unwrap it; afterwards the new one alone, or the old one where
    the block failed.

    Raises:
        MienError: as `load_key`.
    """
    file = folder / _KEY_FILE
    if not file.exists():
        yield
        return
    key = load_key(folder, old).secret
    before = _wrapped(file)
    after = new.wrap(key, _PLACE)
    _put_wrapped(file, [*before, after])
    try:
        yield
    except BaseException:
        _put_wrapped(file, before)
        raise
    _put_wrapped(file, [after])


def put(file: Path, content: bytes) -> None:
    """Writes a file in one step, down to the disk.

    Raises:
        OSError: it cannot be written.
    """
    draft = file.with_name(f"{file.name}.{os.getpid()}.next")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _PRIVATE)
    with os.fdopen(handle, "wb") as opened:
        opened.write(content)
        opened.flush()
        os.fsync(opened.fileno())
    draft.replace(file)


def _make(file: Path, master: KeyWrapper) -> None:
    """Makes a key; where another process is faster, that one's holds."""
    draft = file.with_name(f"{file.name}.{os.getpid()}.made")
    _put_wrapped(draft, [master.wrap(new_key(), _PLACE)])
    try:
        with contextlib.suppress(FileExistsError):
            os.link(draft, file)
    finally:
        draft.unlink()


def _wrapped(file: Path) -> list[bytes]:
    told = json.loads(file.read_bytes())
    return [base64.b64decode(one, validate=True) for one in told["wrapped"]]


def _put_wrapped(file: Path, wrapped: Sequence[bytes]) -> None:
    put(file, canonical({"wrapped": [base64.b64encode(one).decode() for one in wrapped]}))
