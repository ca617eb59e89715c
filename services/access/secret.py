"""Secrets of API keys: ``mien_<key id>_<43 characters>``, and how they are kept.

The prefix lets secret scanners find a key that was published by mistake, and the checksum lets
them tell it from chance without asking anybody. What is kept is an HMAC-SHA256 under a pepper: the
secret is 28 random bytes, so that no slow hash is needed (docs/decisions/0012-hash-of-api-keys.md).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
import zlib
from dataclasses import dataclass, field

PREFIX = "mien_"
_ID_BYTES = 6
_RANDOM_BYTES = 28
_CHECKSUM_BYTES = 4
_ID = re.compile(r"[0-9a-f]{12}")
_FORM = re.compile(r"mien_([0-9a-f]{12})_([0-9A-Za-z_-]{43})")


@dataclass(frozen=True)
class Secret:
    """A secret as its holder has it.

    Attributes:
        key_id: of the key that it is of; no secret itself.
        text: the whole.
    """

    key_id: str
    text: str = field(repr=False)


def new_key_id() -> str:
    """An id that no other key has."""
    return secrets.token_hex(_ID_BYTES)


def is_key_id(text: str) -> bool:
    """Whether a text has the form of a key's id."""
    return _ID.fullmatch(text) is not None


def new_secret(key_id: str) -> Secret:
    """A fresh secret for a key."""
    random = secrets.token_bytes(_RANDOM_BYTES)
    body = random + _checksum(key_id, random)
    return Secret(key_id, f"{PREFIX}{key_id}_{base64.urlsafe_b64encode(body).decode().rstrip('=')}")


def parsed(text: str) -> Secret | None:
    """A secret as it was sent; None if it has not the form of one, checksum included."""
    form = _FORM.fullmatch(text)
    if form is None:
        return None
    key_id, encoded = form.groups()
    try:
        body = base64.b64decode(encoded + "=", b"-_", validate=True)
    except binascii.Error:
        return None
    random, checksum = body[:_RANDOM_BYTES], body[_RANDOM_BYTES:]
    return Secret(key_id, text) if checksum == _checksum(key_id, random) else None


def digest(pepper: bytes, secret: Secret) -> bytes:
    """What is kept of a secret: 32 bytes."""
    return hmac.digest(pepper, secret.text.encode(), hashlib.sha256)


def _checksum(key_id: str, random: bytes) -> bytes:
    return zlib.crc32(key_id.encode() + random).to_bytes(_CHECKSUM_BYTES)
