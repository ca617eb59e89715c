"""Events as entries of a Redis stream."""

from __future__ import annotations

import json

import redis.asyncio
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from services.watch.delivery import DeliveryError, Payload, TryAgainError

_TIMEOUT = 5.0


class RedisStream:
    """Adds each event with its kind, its camera, and all of it as JSON.

    Args:
        url: redis://, rediss:// or unix://; it may hold a password.
        stream: the stream's key.
        most: entries that are kept, about.
    """

    def __init__(self, url: str, stream: str, most: int) -> None:
        self.name = f"redis stream {stream}"
        self._stream, self._most = stream, most
        self._client = redis.asyncio.Redis.from_url(
            url, socket_timeout=_TIMEOUT, socket_connect_timeout=_TIMEOUT
        )

    async def deliver(self, payload: Payload) -> None:
        """See `Receiver`."""
        fields = {
            "event": str(payload["event"]),
            "camera_id": str(payload["camera_id"]),
            "data": json.dumps(payload, separators=(",", ":")),
        }
        try:
            await self._client.xadd(self._stream, fields, maxlen=self._most, approximate=True)  # type: ignore[arg-type]
        except (RedisConnectionError, RedisTimeoutError) as error:
            raise TryAgainError(f"no answer ({type(error).__name__})") from error
        except RedisError as error:
            raise DeliveryError(f"refused ({type(error).__name__})") from error

    async def close(self) -> None:
        """See `Receiver`."""
        await self._client.aclose()
