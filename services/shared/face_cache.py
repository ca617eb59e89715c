"""What Mien saw in a picture, kept for a while: off unless the settings give it a time.

A vector is a face. Entries are therefore sealed under a key of their tenant, named by an HMAC, end
by themselves, and are dropped with the next deletion of any of the tenant's templates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from services.errors import MienError
from services.shared.sealing import Keys
from services.shared.stores import Found, Store
from services.telemetry.metrics import CACHE_LOOKUPS


class FaceCache:
    """Entries by tenant and by what they are of.

    Args:
        store: where they lie; None keeps nothing.
        keys: of the tenants.
    """

    def __init__(self, store: Store | None, keys: Keys) -> None:
        self._store, self._keys = store, keys

    @property
    def is_on(self) -> bool:
        """Whether anything is kept."""
        return self._store is not None

    async def find(self, tenant: str, about: Sequence[bytes]) -> Found:
        """Looks for entries.

        Args:
            tenant: whose.
            about: all that an entry depends on, for each.

        Returns:
            The entries, and the epoch that `keep` asks for.
        """
        if self._store is None or not about:
            return Found([None] * len(about), None)
        key = self._keys.of(tenant)
        names = [key.name(one) for one in about]
        found = await self._store.get(key.tag, names)
        values: list[bytes | None] = []
        for name, sealed in zip(names, found.values, strict=True):
            result, value = "miss", None
            if sealed is not None:
                try:
                    result, value = "hit", key.open(sealed, name)
                except MienError:  # under an older master key, or not from here at all
                    result = "unreadable"
            CACHE_LOOKUPS.labels(result).inc()
            values.append(value)
        return Found(values, found.epoch)

    async def keep(self, tenant: str, entries: Mapping[bytes, bytes], epoch: bytes | None) -> None:
        """Keeps entries, unless a deletion came between.

        Args:
            tenant: whose.
            entries: by what they depend on.
            epoch: that `find` gave before the work was done.
        """
        if self._store is None or not entries or epoch is None:
            return
        key = self._keys.of(tenant)
        names = {key.name(about): value for about, value in entries.items()}
        sealed = {name: key.seal(value, name) for name, value in names.items()}
        await self._store.put(key.tag, sealed, epoch)

    async def forget(self, tenant: str) -> int:
        """Drops all of a tenant's entries; see `Store.drop`."""
        return 0 if self._store is None else await self._store.drop(self._keys.of(tenant).tag)
