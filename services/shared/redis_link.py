"""The way to Redis: short waits, retries with jitter, and a circuit breaker before it.

Redis is never the only copy of anything, so a Redis that is away stops nobody: whoever asks is told
at once, and does without.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError

from services.breaker import Breaker, BreakerOpenError
from services.settings import RedisSettings
from services.telemetry import get_logger
from services.telemetry.metrics import REDIS_MISSED, REDIS_UP

_log = get_logger(__name__)
_Result = TypeVar("_Result")

_RETRIES = 2  # of broken connections only: a server that is slow is not asked twice
_BACKOFF = ExponentialWithJitterBackoff(cap=0.02, base=0.005)  # seconds; fits in the usual wait
_CONNECTIONS = 64


class AwayError(Exception):
    """Redis does not answer; what was asked may or may not have been done."""


class RedisLink:
    """A client of one Redis, used from one event loop.

    Args:
        settings: address and waits.
    """

    def __init__(self, settings: RedisSettings) -> None:
        self.client: Redis = Redis.from_url(
            settings.url.get_secret_value(),
            socket_timeout=settings.timeout_seconds,
            socket_connect_timeout=settings.timeout_seconds,
            max_connections=_CONNECTIONS,
            retry=Retry(_BACKOFF, _RETRIES, (RedisConnectionError,)),
        )
        self._seconds = settings.timeout_seconds
        # One failure is enough: what follows in the same request must not wait again. A refusal
        # is an answer, and a caller who has gone says nothing of Redis.
        self._breaker = Breaker(
            "redis", settings.retry_seconds, [ResponseError, asyncio.CancelledError]
        )
        self._up = True
        REDIS_UP.set(1)

    async def ask(self, use: str, work: Callable[[Redis], Awaitable[_Result]]) -> _Result:
        """Asks Redis something.

        Args:
            use: what for, for the metrics.
            work: one or few commands, which together must end in time.

        Raises:
            AwayError: it refused, failed or did not answer in time, or has just done so.
        """
        try:
            async with self._breaker.guard(), asyncio.timeout(self._seconds):
                result = await work(self.client)
        except BreakerOpenError as error:
            REDIS_MISSED.labels(use).inc()
            raise AwayError from error
        except (RedisError, OSError) as error:  # TimeoutError is an OSError
            REDIS_MISSED.labels(use).inc()
            self._note(up=isinstance(error, ResponseError), error=error)
            raise AwayError from error
        self._note(up=True)
        return result

    async def close(self) -> None:
        """Hangs up."""
        await self.client.aclose()

    def _note(self, *, up: bool, error: Exception | None = None) -> None:
        """Says once that Redis has gone, and once that it is back."""
        if up != self._up:
            self._up = up
            REDIS_UP.set(int(up))
            if up:
                _log.info("Redis is back")
            else:  # its text may quote the address, which may hold a password
                _log.warning("doing without Redis", error=type(error).__name__)
