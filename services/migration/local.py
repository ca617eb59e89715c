"""Migrations without a gateway, for commands: same code, same state."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from models.zoo import Zoo
from services.audit.migrations import AuditedMigrations
from services.audit.trail import Trail
from services.gallery.open import open_gallery
from services.gateway.mapping_client import MappingClient
from services.gateway.mapping_link import RpcLink
from services.local import local_mapping
from services.migration.migrations import Migrations
from services.rpc.tls import client_credentials
from services.serve import map_names
from services.settings import Settings


@asynccontextmanager
async def local_migrations(
    settings: Settings, maps: tuple[str, ...] | None = None
) -> AsyncIterator[Migrations]:
    """Opens the gallery of the settings, with the way to the maps.

    Args:
        settings: of gallery, maps and engine.
        maps: to load in this process where the settings name no mapping service; None for those
            that would be served.

    Raises:
        SettingsError: the gallery's address is none.
        MienError: the gallery cannot be opened.
        ZooError: a map is not known, or its weights are not here.
        EngineError: no engine can run a map.
    """
    zoo = Zoo(settings.home)
    trail = Trail(settings)
    gallery = await open_gallery(settings, trail=trail)
    try:
        async with _mapping(settings, zoo, maps) as mapping:
            migrations = AuditedMigrations(trail, gallery, mapping, settings, zoo)
            try:
                yield migrations
            finally:
                await migrations.close()
    finally:
        await gallery.close()
        await trail.close()


@asynccontextmanager
async def _mapping(
    settings: Settings, zoo: Zoo, maps: tuple[str, ...] | None
) -> AsyncIterator[MappingClient]:
    address = settings.gateway.mapping_address
    if address is not None:
        link = RpcLink(address, client_credentials(settings.tls))
        client = MappingClient(link, settings.gateway.timeout_seconds)
        try:
            yield client
        finally:
            await client.close()
        return
    names = map_names(settings, zoo) if maps is None else maps
    async with local_mapping(settings, names) as client:
        yield client
