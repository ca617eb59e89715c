"""The gateway's way to migrations of its gallery, which is opened when it is first needed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from models.zoo import Zoo
from services.audit.migrations import AuditedMigrations
from services.audit.trail import Trail
from services.errors import Errors, MienError
from services.gateway.gallery_access import GalleryAccess
from services.gateway.mapping_client import MappingClient
from services.gateway.mapping_link import Answered, MappingLink
from services.migration import Migrations
from services.rpc.mien.v1 import mapping_pb2
from services.settings import Settings
from services.telemetry import get_logger

_log = get_logger(__name__)
_RETRY_SECONDS = 5.0  # between two attempts to take up migrations of a gallery that is away


class MigrationAccess:
    """Makes the migrations of the gateway's gallery.

    Args:
        access: to the gallery.
        link: the way to the mapping service; None where there is none.
        settings: sizes and times.
        zoo: holds the maps' cards.
        trail: the way to the audit log.
    """

    def __init__(
        self,
        access: GalleryAccess,
        link: MappingLink | None,
        settings: Settings,
        zoo: Zoo,
        trail: Trail,
    ) -> None:
        self._access, self._settings, self._zoo, self._trail = access, settings, zoo, trail
        self._mapping = MappingClient(link or NoMaps(), settings.gateway.timeout_seconds)
        self._migrations: Migrations | None = None
        self._later: asyncio.Task[None] | None = None

    async def migrations(self) -> Migrations:
        """The migrations.

        Raises:
            MienError: the gallery cannot be opened.
        """
        if self._migrations is None:
            gallery = await self._access.gallery()
            # Another caller may have been faster while this one waited.
            self._migrations = self._migrations or AuditedMigrations(
                self._trail, gallery, self._mapping, self._settings, self._zoo
            )
        return self._migrations

    async def take_up(self) -> None:
        """Goes on with what an earlier process left at work: later, if the gallery is away now."""
        try:
            await (await self.migrations()).take_up()
        except MienError as error:
            _log.warning("migrations are not taken up yet", code=error.kind.code)
            self._later = asyncio.create_task(self._take_up_later())

    async def _take_up_later(self) -> None:
        while True:
            await asyncio.sleep(_RETRY_SECONDS)
            try:
                return await (await self.migrations()).take_up()
            except MienError:
                continue

    async def close(self) -> None:
        """Stops what runs in the background."""
        if self._later is not None:
            self._later.cancel()
            await asyncio.gather(self._later, return_exceptions=True)
        if self._migrations is not None:
            await self._migrations.close()
        await self._mapping.close()


class NoMaps:
    """The link of a gateway without a mapping service: no map is served."""

    async def list_maps(
        self, seconds: float, *, wait: bool = False
    ) -> mapping_pb2.ListMapsResponse:
        """No maps."""
        del seconds, wait
        return mapping_pb2.ListMapsResponse()

    async def map(self, request: mapping_pb2.MapRequest, seconds: float) -> mapping_pb2.MapResponse:
        """Refuses.

        Raises:
            MienError: MAPPING_UNAVAILABLE.
        """
        del request, seconds
        raise _none()

    async def map_stream(
        self,
        batches: AsyncIterator[mapping_pb2.MapStreamRequest],
        answered: Answered,
        seconds: float,
    ) -> None:
        """Refuses.

        Raises:
            MienError: MAPPING_UNAVAILABLE.
        """
        del batches, answered, seconds
        raise _none()

    async def close(self) -> None:
        """Nothing is held."""


def _none() -> MienError:
    return MienError(
        Errors.MAPPING_UNAVAILABLE, "This gateway knows no mapping service.", field="map"
    )
