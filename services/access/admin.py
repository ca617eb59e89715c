"""Managing API keys; `services.audit.keys` writes down what is done with it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta

from services.access.database import KeyDatabase
from services.access.keys import Key, new_key
from services.access.policy import Action
from services.access.secret import Secret, digest, new_key_id, new_secret


class KeyAdmin:
    """Makes, lists, rotates and ends keys. Its methods block.

    Args:
        store: of the keys.
        pepper: that their secrets are hashed with.
    """

    def __init__(self, store: KeyDatabase, pepper: bytes) -> None:
        self._store, self._pepper = store, pepper

    def made(
        self,
        tenant: str,
        actions: Iterable[Action],
        *,
        name: str = "",
        rate: str | None = None,
        lasting: timedelta | None = None,
    ) -> tuple[Key, Secret]:
        """A key that is not stored, and its secret.

        Raises:
            MienError: a field is not valid.
        """
        key_id = new_key_id()
        key = new_key(key_id, tenant, actions, name=name, rate=rate, lasting=lasting)
        secret = new_secret(key_id)
        return replace(key, digest=digest(self._pepper, secret)), secret

    def add(self, key: Key) -> None:
        """Stores a key that was made.

        Raises:
            MienError: the store cannot be written.
        """
        self._store.add(key)

    def all(self) -> list[Key]:
        """All keys, oldest first.

        Raises:
            MienError: the store cannot be read.
        """
        return self._store.all()

    def rotate(self, key_id: str, grace: timedelta) -> tuple[Key, Secret]:
        """Gives a key a new secret; the one before is taken for a grace time.

        Raises:
            MienError: there is no such key, it has ended, or the store cannot be written.
        """
        secret = new_secret(key_id)
        return self._store.rotate(key_id, digest(self._pepper, secret), grace), secret

    def revoke(self, key_id: str) -> Key:
        """Ends a key for good.

        Raises:
            MienError: there is no such key, or the store cannot be written.
        """
        return self._store.revoke(key_id)

    def close(self) -> None:
        """Lets the store go."""
        self._store.close()
