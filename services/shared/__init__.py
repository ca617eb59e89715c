"""What several gateways share through Redis, and what one keeps by itself without it."""

from services.shared.face_cache import FaceCache
from services.shared.limits import limits_storage
from services.shared.locks import Locks
from services.shared.news import LocalNews, News, SharedNews
from services.shared.redis_link import RedisLink
from services.shared.shared import Shared

__all__ = [
    "FaceCache",
    "LocalNews",
    "Locks",
    "News",
    "RedisLink",
    "Shared",
    "SharedNews",
    "limits_storage",
]
