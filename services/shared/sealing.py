"""Keys of the cache: for each tenant one to name entries by and one to seal them with.

Both come from the gallery's master key by HKDF (RFC 5869), so whoever has the Redis without that
key can neither read an entry nor tell which picture it is of.
"""

from __future__ import annotations

import hmac
from functools import lru_cache

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from services.gallery.embedded.keys import Cipher, new_key, parse_key
from services.settings import GallerySettings

_PURPOSE = b"mien face cache 1\x1f"
_KEY_BYTES = 32
_TENANTS = 1024  # whose keys are remembered


class TenantKey:
    """Names and seals the entries of one tenant.

    Args:
        secret: the gallery's master key, 32 bytes.
        tenant: whose.
    """

    def __init__(self, secret: bytes, tenant: str) -> None:
        derived = HKDF(SHA256(), 2 * _KEY_BYTES, salt=None, info=_PURPOSE + tenant.encode())
        both = derived.derive(secret)
        self._naming, self._cipher = both[:_KEY_BYTES], Cipher(both[_KEY_BYTES:])
        self.tag = self.name(b"tenant")[:_KEY_BYTES]
        """What stands for the tenant where entries lie."""

    def name(self, about: bytes) -> str:
        """Names an entry: an HMAC of what it is of."""
        return hmac.digest(self._naming, about, "sha256").hex()

    def seal(self, value: bytes, name: str) -> bytes:
        """Encrypts an entry."""
        return self._cipher.seal(value, name)

    def open(self, sealed: bytes, name: str) -> bytes:
        """Decrypts an entry.

        Raises:
            MienError: it was sealed under another key or name, or was changed.
        """
        return self._cipher.open(sealed, name)


class Keys:
    """The tenants' keys.

    Args:
        secret: 32 bytes.
    """

    def __init__(self, secret: bytes) -> None:
        self.of = lru_cache(_TENANTS)(lambda tenant: TenantKey(secret, tenant))


def shared_secret(settings: GallerySettings) -> bytes | None:
    """The master key, if the settings name one that all gateways can have.

    Raises:
        MienError: what they name is no key, or cannot be read.
    """
    if given := settings.master_key.get_secret_value():
        return parse_key(given, "MIEN_GALLERY__MASTER_KEY")
    if (file := settings.master_key_file) is None or not file.exists():
        return None
    return parse_key(file.read_text(encoding="ascii", errors="replace"), str(file))


def own_secret() -> bytes:
    """A key that ends with this process."""
    return new_key()
