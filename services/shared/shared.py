"""All that gateways share, as the settings say: through Redis, or each by itself."""

from __future__ import annotations

from dataclasses import dataclass

from services.settings import Settings, SettingsError
from services.shared.face_cache import FaceCache
from services.shared.locks import LocalLocks, Locks, SharedLocks
from services.shared.redis_link import RedisLink
from services.shared.sealing import Keys, own_secret, shared_secret
from services.shared.stores import MemoryStore, RedisStore, Store

_CLUSTER = ("http://", "https://")  # galleries that several gateways may serve


@dataclass(frozen=True)
class Shared:
    """What gateways share.

    Attributes:
        locks: keep the same work from being done twice.
        faces: what was seen in pictures.
        link: to Redis, if there is one.
    """

    locks: Locks
    faces: FaceCache
    link: RedisLink | None = None

    @classmethod
    def alone(cls) -> Shared:
        """Of one process, without a cache."""
        return cls(LocalLocks(), FaceCache(None, Keys(own_secret())))

    @classmethod
    def open(cls, settings: Settings) -> Shared:
        """As the settings say; Redis is asked when it is first needed.

        Raises:
            SettingsError: faces are to be kept where a deletion could not reach them.
            MienError: the master key is no key.
        """
        link = RedisLink(settings.redis) if settings.redis.url.get_secret_value() else None
        locks: Locks = LocalLocks() if link is None else SharedLocks(link)
        return cls(locks, _faces(settings, link), link)

    async def close(self) -> None:
        """Hangs up."""
        if self.link is not None:
            await self.link.close()


def _faces(settings: Settings, link: RedisLink | None) -> FaceCache:
    seconds = settings.cache.seconds
    if not seconds:
        return FaceCache(None, Keys(own_secret()))
    secret = shared_secret(settings.gallery)
    if link is not None and secret is not None:
        store: Store = RedisStore(link, seconds)
        return FaceCache(store, Keys(secret))
    if settings.gallery.uri.startswith(_CLUSTER):
        raise SettingsError(
            "MIEN_CACHE__SECONDS: several gateways may serve this gallery, and a deletion must "
            "reach what each of them keeps: set MIEN_REDIS__URL and MIEN_GALLERY__MASTER_KEY, or 0"
        )
    return FaceCache(MemoryStore(seconds, settings.cache.entries), Keys(own_secret()))
