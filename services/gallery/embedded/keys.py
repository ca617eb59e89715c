"""Encryption at rest: AES-256-GCM, a data key for each tenant, wrapped by one master key.

What is sealed is bound to its place (tenant, ids, space), so that a row copied over another does
not open. Whoever has the database without the master key has no vector and no name.
"""

from __future__ import annotations

import base64
import binascii
import os
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from services.errors import Errors, MienError
from services.settings import GallerySettings
from services.telemetry import get_logger

_log = get_logger(__name__)

_KEY_BYTES = 32
_NONCE_BYTES = 12
_PRIVATE = 0o600
_OTHERS = 0o077
_BETWEEN = "\x1f"  # in no id: see checks.py


class Cipher:
    """Seals and opens bytes under one key.

    Args:
        key: 32 bytes.
    """

    def __init__(self, key: bytes) -> None:
        self._aead = AESGCM(key)

    def seal(self, plain: bytes, *place: str) -> bytes:
        """Encrypts bytes for one place: a fresh nonce, the cipher text and its tag."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._aead.encrypt(nonce, plain, _BETWEEN.join(place).encode())

    def open(self, sealed: bytes, *place: str) -> bytes:
        """Decrypts what was sealed for the same place.

        Raises:
            MienError: it was sealed under another key or for another place, or was changed.
        """
        nonce, rest = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
        try:
            return self._aead.decrypt(nonce, rest, _BETWEEN.join(place).encode())
        except (InvalidTag, ValueError) as error:
            raise MienError(
                Errors.GALLERY_UNAVAILABLE, "A row of the gallery does not open with its key."
            ) from error


def new_key() -> bytes:
    """A fresh key: 32 bytes of the system's randomness."""
    return os.urandom(_KEY_BYTES)


def parse_key(text: str, where: str) -> bytes:
    """A master key from base64.

    Args:
        text: what is written.
        where: the setting or file that it comes from, for the message.

    Raises:
        MienError: it is not 32 bytes in base64.
    """
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != _KEY_BYTES:
        raise MienError(
            Errors.GALLERY_UNAVAILABLE, f"{where} does not hold {_KEY_BYTES} bytes as base64."
        )
    return key


def key_file(settings: GallerySettings, database: Path) -> Path:
    """Where the master key lies if it is in a file."""
    return settings.master_key_file or database.with_name(database.name + ".key")


def next_key_file(file: Path) -> Path:
    """Where a rotation lays the new key until the database is wrapped with it."""
    return file.with_name(file.name + ".next")


def master_keys(settings: GallerySettings, database: Path) -> list[bytes]:
    """The master keys to try, likeliest first; one is made for a database that is new.

    There are two only after a rotation was killed half-way.

    Raises:
        MienError: no key is here although the database is, or what is here is no key.
    """
    if given := settings.master_key.get_secret_value():
        return [parse_key(given, "MIEN_GALLERY__MASTER_KEY")]
    file = key_file(settings, database)
    if not file.exists() and not database.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        write_key(file, new_key())
        _log.warning(
            "a master key was made; without it the gallery cannot be read: keep a copy elsewhere",
            file=file,
        )
    found = [one for one in (file, next_key_file(file)) if one.exists()]
    if not found:
        raise MienError(
            Errors.GALLERY_UNAVAILABLE, f"The master key of {database} is not at {file}."
        )
    if file.exists() and file.stat().st_mode & _OTHERS:
        _log.warning("the master key can be read by others than its owner", file=file)
    return [parse_key(one.read_text(encoding="ascii", errors="replace"), str(one)) for one in found]


def write_key(file: Path, key: bytes) -> None:
    """Writes a master key that only its owner can read, down to the disk.

    Raises:
        FileExistsError: the file is there already.
    """
    handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _PRIVATE)
    with os.fdopen(handle, "wb") as opened:
        opened.write(base64.b64encode(key) + b"\n")
        opened.flush()
        os.fsync(opened.fileno())
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
