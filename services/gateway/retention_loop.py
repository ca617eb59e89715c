"""Retention in the gateway: the rules are looked at again and again, by one gateway at a time."""

from __future__ import annotations

import asyncio

from services.audit.trail import Trail
from services.errors import Errors, MienError
from services.gateway.gallery_access import GalleryAccess
from services.retention import Retention, Run
from services.settings import Settings
from services.telemetry import get_logger

_log = get_logger(__name__)


class RetentionLoop:
    """Runs retention in the background, and when an operator asks.

    Args:
        access: the way to the gallery.
        settings: the rules, and how often they are looked at.
        trail: the way to the audit log.
    """

    def __init__(self, access: GalleryAccess, settings: Settings, trail: Trail) -> None:
        self._access, self._settings, self._trail = access, settings.retention, trail
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to look, if there is any rule."""
        every = [self._settings, *self._settings.tenants.values()]
        if self._settings.superseded_days or any(
            one.subject_days or one.withdrawn_days for one in every
        ):
            self._task = asyncio.create_task(self._work())

    async def run(self, *, dry: bool = False, accept_clock: bool = False) -> Run:
        """Looks once; see `Retention.run`.

        Raises:
            MienError: the gallery cannot be opened, or another process is at it.
        """
        gallery = await self._access.gallery()
        retention = Retention(gallery, self._settings, self._trail)
        return await retention.run(dry=dry, accept_clock=accept_clock)

    async def close(self) -> None:
        """Stops looking; a deletion at hand is finished."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _work(self) -> None:
        while True:
            try:
                await self.run()
            except MienError as error:
                if error.error is not Errors.MIGRATION_BUSY:  # another gateway does it
                    _log.warning("retention failed", code=error.kind.code)
            await asyncio.sleep(self._settings.every_seconds)
