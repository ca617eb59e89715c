"""The gateway's view of the API keys: in memory, a fifth of a second old at most."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from services.access.keys import Key, KeyStore, matches
from services.access.principal import Principal
from services.access.secret import digest, parsed
from services.errors import MienError
from services.telemetry import get_logger

_log = get_logger(__name__)
FRESH_SECONDS = 0.2
"""How long a revoked key may still be taken, and a new one not yet."""
_TOUCH = timedelta(minutes=1)


class KeyRing:
    """Finds the caller of a secret.

    All keys are held, so that a key that is not there is found missing in the time that it takes
    to find one that is.

    Args:
        store: where the keys are.
        pepper: that secrets are hashed with.
    """

    def __init__(self, store: KeyStore, pepper: bytes) -> None:
        self._store, self._pepper = store, pepper
        self._keys: Mapping[str, Key] = {}
        self._fresh_until = 0.0
        self._lock = asyncio.Lock()
        self._touched: dict[str, datetime] = {}
        self._work: set[asyncio.Task[None]] = set()

    async def caller(self, text: str) -> Principal | None:
        """The caller that a secret is of; None if it is of none.

        Args:
            text: the secret as it was sent.

        Raises:
            MienError: the keys cannot be read.
        """
        secret = parsed(text)
        if secret is None:
            return None
        await self._refresh()
        key, now = self._keys.get(secret.key_id), datetime.now(UTC)
        if not matches(key, digest(self._pepper, secret), now) or key is None:
            return None
        self._touch(key, now)
        return key.principal()

    async def close(self) -> None:
        """Waits for what is being written, and lets the store go."""
        await asyncio.gather(*self._work)
        await asyncio.to_thread(self._store.close)

    async def _refresh(self) -> None:
        if time.monotonic() < self._fresh_until:
            return
        async with self._lock:
            if time.monotonic() < self._fresh_until:  # another request has read them meanwhile
                return
            asked = time.monotonic()
            keys = await asyncio.to_thread(self._store.keys)
            if keys is not None:
                self._keys = keys
            self._fresh_until = asked + FRESH_SECONDS

    def _touch(self, key: Key, now: datetime) -> None:
        last = self._touched.get(key.id, key.last_used)
        if last is not None and now - last < _TOUCH:
            return
        self._touched[key.id] = now
        task = asyncio.create_task(self._note(key.id, now))
        self._work.add(task)
        task.add_done_callback(self._work.discard)

    async def _note(self, key_id: str, now: datetime) -> None:
        try:
            await asyncio.to_thread(self._store.touch, key_id, now)
        except MienError:
            _log.warning("the last use of a key is not noted", key=key_id)
