"""A circuit breaker: what does not answer is left alone for a while, and callers are told at once.

The library counts that while by the time of day. Set back by a day, the clock would keep a breaker
open for a day; so the end of the while is seen here, by a clock that nobody sets.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from purgatory import AsyncCircuitBreakerFactory
from purgatory.domain.model import OPENED, ExcludeType, HalfOpenedState, OpenedState
from purgatory.service._async.circuitbreaker import AsyncCircuitBreaker


class BreakerOpenError(Exception):
    """What is asked for has just failed, and is not asked again yet."""


class Breaker:
    """Opens at the first failure.

    Args:
        name: of what it guards.
        seconds: for which it stays open.
        exclude: exceptions that are no failures, as the library takes them.
    """

    def __init__(self, name: str, seconds: float, exclude: ExcludeType) -> None:
        self._name, self._seconds = name, seconds
        self._factory = AsyncCircuitBreakerFactory(
            default_threshold=1, default_ttl=seconds, exclude=exclude
        )
        self._breaker: AsyncCircuitBreaker | None = None
        self._until = 0.0

    @asynccontextmanager
    async def guard(self) -> AsyncIterator[None]:
        """Runs a block, whose exceptions are failures.

        Raises:
            BreakerOpenError: it is open; the block was not run.
        """
        if self._breaker is None:
            self._breaker = await self._factory.get_breaker(self._name)
        context = self._breaker.context
        if context.state == OPENED and time.monotonic() >= self._until:
            context.set_state(HalfOpenedState())
        was_open = context.state == OPENED
        try:
            async with self._breaker:
                yield
        except OpenedState as error:
            raise BreakerOpenError from error
        finally:
            if context.state == OPENED and not was_open:
                self._until = time.monotonic() + self._seconds
