"""Both galleries, real ones: SQLite with faiss, and Milvus Lite, which speaks as a cluster does."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from services.gallery import Gallery
from services.gallery.open import open_gallery
from services.settings import Settings


@dataclass
class House:
    """A gallery that can be closed and opened again."""

    settings: Settings
    uri: str
    gallery: Gallery

    async def reopen(self) -> Gallery:
        await self.gallery.close()
        self.gallery = await open_gallery(self.settings, self.uri)
        return self.gallery

    async def now_and_reopened(self) -> AsyncIterator[Gallery]:
        """The gallery as it is, then as it comes back from its disk."""
        yield self.gallery
        yield await self.reopen()


@pytest.fixture(params=["sqlite", "milvus-lite"])
async def house(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[House]:
    uri = f"{request.param}:{tmp_path / 'gallery.db'}"
    settings = Settings(home=tmp_path)
    opened = House(settings, uri, await open_gallery(settings, uri))
    yield opened
    await opened.gallery.close()


@pytest.fixture
def gallery(house: House) -> Gallery:
    return house.gallery
