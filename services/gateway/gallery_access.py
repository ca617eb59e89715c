"""The gateway's way to the gallery."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from services.errors import Errors, MienError
from services.gallery import Gallery
from services.telemetry import get_logger
from services.telemetry.metrics import GALLERY_TEMPLATES

_log = get_logger(__name__)
_RETRY_SECONDS = 2.0  # between two attempts to open: a store that is down is not asked all the time


class GalleryAccess:
    """Opens the gallery when it is first needed, so that verification does without it.

    Args:
        opening: opens it.
    """

    def __init__(self, opening: Callable[[], Awaitable[Gallery]]) -> None:
        self._opening = opening
        self._gallery: Gallery | None = None
        self._failure: MienError | None = None
        self._failed_at = 0.0
        self._lock = asyncio.Lock()

    async def warm_up(self) -> None:
        """Opens the gallery before anybody waits for it; one that cannot be opened is a warning.

        Raises:
            SettingsError: the address of the gallery is not valid.
        """
        try:
            await self.gallery()
        except MienError as error:
            _log.warning("the gallery cannot be opened", reason=error.detail)

    async def gallery(self) -> Gallery:
        """The open gallery.

        Raises:
            MienError: it cannot be opened.
        """
        if self._gallery is None:
            async with self._lock:
                await self._open()
        if self._gallery is None:
            raise MienError(Errors.GALLERY_UNAVAILABLE, "The gallery is closed.")
        return self._gallery

    async def _open(self) -> None:
        if self._gallery is not None:  # another request has opened it meanwhile
            return
        if self._failure is not None and time.monotonic() < self._failed_at + _RETRY_SECONDS:
            raise self._failure
        try:
            self._gallery = await self._opening()
        except MienError as error:
            self._failure, self._failed_at = error, time.monotonic()
            raise

    async def measure(self) -> None:
        """Brings the gauge of the gallery's size up to date; an unavailable gallery leaves it."""
        if self._gallery is None:
            return
        try:
            collections = await self._gallery.collections()
        except MienError:
            return
        GALLERY_TEMPLATES.set(sum(one.templates for one in collections if one.live))

    async def close(self) -> None:
        """Closes the gallery."""
        if self._gallery is not None:
            await self._gallery.close()
            self._gallery = None
