"""Opens the gallery that the settings name."""

from __future__ import annotations

import base64
from pathlib import Path

from pydantic import SecretStr

from services.audit.gallery import audited
from services.audit.trail import Trail
from services.gallery.contract import Gallery
from services.gallery.embedded import EmbeddedGallery
from services.gallery.embedded.keys import new_key
from services.settings import Settings, SettingsError

SQLITE = "sqlite:"
MILVUS_LITE = "milvus-lite:"
MILVUS = ("http://", "https://")


def database_of(settings: Settings, uri: str = "") -> Path:
    """File of the embedded gallery that the settings, or ``uri``, name.

    Raises:
        SettingsError: it is not an embedded one.
    """
    address = uri or settings.gallery.uri or f"{SQLITE}{settings.home / 'gallery.sqlite3'}"
    if not address.startswith(SQLITE) or len(address) == len(SQLITE):
        raise SettingsError("Only the embedded gallery (sqlite:PATH) is one file.")
    return Path(address.removeprefix(SQLITE))


async def open_gallery(settings: Settings, uri: str = "", trail: Trail | None = None) -> Gallery:
    """Opens a gallery whose changes are audited; an embedded one is made if it is not there.

    Args:
        settings: keys, sizes, and the address if none is given.
        uri: as `MIEN_GALLERY__URI`.
        trail: the way to the audit log; None for one that is closed with the gallery.

    Raises:
        SettingsError: the address is of no kind that is known, or Milvus's client is missing.
        MienError: the gallery cannot be opened.
    """
    gallery = await _opened(settings, uri)
    return audited(gallery, trail or Trail(settings, uri), own=trail is None)


async def _opened(settings: Settings, uri: str) -> Gallery:
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
        return await MilvusGallery.open(
            address.removeprefix(MILVUS_LITE), settings.gallery, settings.redis
        )
    raise SettingsError(
        "MIEN_GALLERY__URI: it is sqlite:PATH, http(s)://HOST:PORT of Milvus, or milvus-lite:PATH"
    )


def throwaway(settings: Settings, folder: Path) -> Settings:
    """Settings of a gallery in a folder that is soon deleted, under a key that nobody keeps."""
    update = {
        "uri": f"{SQLITE}{folder / 'gallery.sqlite3'}",
        "master_key": SecretStr(base64.b64encode(new_key()).decode()),
        "master_key_file": None,
    }
    return settings.model_copy(update={"gallery": settings.gallery.model_copy(update=update)})
