"""Opens the gallery that the settings name."""

from __future__ import annotations

from pathlib import Path

from services.gallery.contract import Gallery
from services.gallery.embedded import EmbeddedGallery
from services.settings import Settings, SettingsError

SQLITE = "sqlite:"
MILVUS_LITE = "milvus-lite:"
MILVUS = ("http://", "https://")


async def open_gallery(settings: Settings, uri: str = "") -> Gallery:
    """Opens a gallery; an embedded one is made if it is not there.

    Args:
        settings: keys, sizes, and the address if none is given.
        uri: as `MIEN_GALLERY__URI`.

    Raises:
        SettingsError: the address is of no kind that is known, or Milvus's client is missing.
        MienError: the gallery cannot be opened.
    """
    address = uri or settings.gallery.uri or f"{SQLITE}{settings.home / 'gallery.sqlite3'}"
    if address.startswith(SQLITE) and len(address) > len(SQLITE):
        return await EmbeddedGallery.open(Path(address.removeprefix(SQLITE)), settings.gallery)
    if address.startswith((*MILVUS, MILVUS_LITE)):
        try:
            from services.gallery.milvus import MilvusGallery  # noqa: PLC0415 - an extra
        except ImportError as error:
            raise SettingsError(
                f"{error.name} is not installed. Milvus needs: pip install 'mien[gallery-milvus]'"
            ) from error
        return await MilvusGallery.open(address.removeprefix(MILVUS_LITE), settings.gallery)
    raise SettingsError(
        "MIEN_GALLERY__URI: it is sqlite:PATH, http(s)://HOST:PORT of Milvus, or milvus-lite:PATH"
    )
