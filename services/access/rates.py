"""How many requests a caller may send: a moving window."""

from __future__ import annotations

import time

from limits import parse
from limits.aio.storage import Storage
from limits.aio.strategies import MovingWindowRateLimiter

from services.access.principal import Principal
from services.errors import Errors, MienError

_NAMESPACE = "access"
_LEAST_WAIT = 0.05  # seconds; the window may have moved since the refusal


class Rates:
    """Counts requests by caller.

    Args:
        storage: of the counts, shared by all gateways that use it.
        usual: rate of callers that have none of their own; empty for no limit.
    """

    def __init__(self, storage: Storage, usual: str) -> None:
        self._window = MovingWindowRateLimiter(storage)
        self._usual = usual

    async def count(self, caller: Principal) -> None:
        """Counts one request.

        Raises:
            MienError: it is one too many.
        """
        rate = caller.rate or self._usual
        if not rate:
            return
        item = parse(rate)
        if await self._window.hit(item, _NAMESPACE, caller.who):
            return
        stats = await self._window.get_window_stats(item, _NAMESPACE, caller.who)
        raise MienError(
            Errors.RATE_LIMITED,
            f"At most {item} are taken from one caller.",
            retry_after=max(_LEAST_WAIT, stats.reset_time - time.time()),
        )
