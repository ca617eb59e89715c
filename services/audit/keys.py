"""API keys whose changes are audited: every interface and command goes through it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import timedelta

from services.access.admin import KeyAdmin
from services.access.keys import Key
from services.access.policy import Action as Allowed
from services.access.principal import ALL_TENANTS
from services.access.secret import Secret, is_key_id
from services.audit.record import Action
from services.audit.trail import Trail
from services.errors import Errors, MienError


class AuditedKeys:
    """Makes, lists, rotates and ends keys; each change stands between two records.

    Args:
        admin: does the work.
        trail: to write to.
    """

    def __init__(self, admin: KeyAdmin, trail: Trail) -> None:
        self._admin, self._trail = admin, trail

    async def create(
        self,
        tenant: str,
        actions: Iterable[Allowed],
        *,
        name: str = "",
        rate: str | None = None,
        lasting: timedelta | None = None,
    ) -> tuple[Key, Secret]:
        """Stores a new key. Its label, which may name a person, is not written down.

        Raises:
            MienError: a field is not valid, or store or audit log cannot be written.
        """
        key, secret = self._admin.made(tenant, actions, name=name, rate=rate, lasting=lasting)
        of = "" if key.tenant == ALL_TENANTS else key.tenant
        about = {"key": key.id, "allow": sorted(key.actions)}
        async with self._trail.change(Action.ACCESS_KEY_CREATE, of, about=about):
            await asyncio.to_thread(self._admin.add, key)
        return key, secret

    async def all(self) -> list[Key]:
        """All keys, oldest first.

        Raises:
            MienError: the store cannot be read.
        """
        return await asyncio.to_thread(self._admin.all)

    async def rotate(self, key_id: str, grace: timedelta) -> tuple[Key, Secret]:
        """Gives a key a new secret; the one before is taken for a grace time.

        Raises:
            MienError: there is no such key, it has ended, or store or audit log cannot be written.
        """
        about = {"key": _checked(key_id), "grace_seconds": grace.total_seconds()}
        async with self._trail.change(Action.ACCESS_KEY_ROTATE, about=about):
            return await asyncio.to_thread(self._admin.rotate, key_id, grace)

    async def revoke(self, key_id: str) -> Key:
        """Ends a key for good.

        Raises:
            MienError: there is no such key, or store or audit log cannot be written.
        """
        about = {"key": _checked(key_id)}
        async with self._trail.change(Action.ACCESS_KEY_REVOKE, about=about):
            return await asyncio.to_thread(self._admin.revoke, key_id)


def managed(keys: AuditedKeys | None) -> AuditedKeys:
    """The keys, where there is a guard that knows them.

    Raises:
        MienError: callers need not be known: everybody could make a key for the day when one must.
    """
    if keys is None:
        raise MienError(
            Errors.PERMISSION_DENIED, "Keys are managed only where callers must be known."
        )
    return keys


def _checked(key_id: str) -> str:
    """What is no id might be a secret, sent by mistake: it must not be written down."""
    if not is_key_id(key_id):
        raise MienError(Errors.KEY_UNKNOWN, "There is no such key.", field="key_id")
    return key_id
