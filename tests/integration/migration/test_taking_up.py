"""A gateway that starts while its gallery is away: what was at work goes on when it is back."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from models.zoo import Zoo
from services.audit.trail import Trail
from services.errors import Errors, MienError
from services.gallery import Gallery
from services.gallery.open import open_gallery
from services.gateway.gallery_access import GalleryAccess
from services.gateway.migration_access import MigrationAccess
from services.mapping import InProcessLink, MappingService
from services.migration import State
from services.settings import MappingSettings
from tests.integration.mapping.tiny_mapping import loaded
from tests.integration.migration.migrating import begun, check_mapped, migrating, settings_of

_COUNT = 300


async def test_a_migration_is_taken_up_when_the_gallery_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with migrating(tmp_path, _COUNT) as (_, migrations, name):
        await migrations.start(name, rate=100.0)
        await begun(migrations, name)
    settings, away = settings_of(tmp_path), [True]

    async def opening() -> Gallery:
        if away[0]:
            raise MienError(Errors.GALLERY_UNAVAILABLE, "The gallery is away.")
        return await open_gallery(settings)

    for place in ("migration_access", "gallery_access"):
        monkeypatch.setattr(f"services.gateway.{place}._RETRY_SECONDS", 0.1)
    service = MappingService(loaded(tmp_path, "tiny-map"), MappingSettings())
    access = GalleryAccess(opening)
    link = InProcessLink(service)
    taking = MigrationAccess(access, link, settings, Zoo(tmp_path), Trail(settings))
    await taking.take_up()
    away[0] = False
    try:
        async with asyncio.timeout(30):
            while True:
                await asyncio.sleep(0.1)
                try:
                    record = await (await taking.migrations()).get(name)
                except MienError:
                    continue
                if record.state is State.CAUGHT_UP:
                    break
        assert await check_mapped(await access.gallery()) == _COUNT
    finally:
        await taking.close()
        await access.close()
        await service.close()
