"""Places for requests at work: many for a bunch of callers, few for as long as too many come."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_SUDDEN = 1 / 3  # of the places, which a bunch may take at once
_GROWTH = 0.43  # places more for each request that was answered since the bunch began
_SIGNS, _SIGN_SECONDS = 4, 0.15  # so many refusals in so little time are overload
_CALM_SECONDS = 0.25  # without a refusal: overload is over
_WATCHED_SECONDS = 1.0  # in which fewer came than could be answered: it is over too
_SHORTEST = 1e-6  # seconds of a request
_PACE, _LEAST = 16, 8  # the newest requests whose mean time says how many can be answered; so many


class Places:
    """Tells bunches of requests from overload, and keeps quick what overload lets in.

    Requests come in bunches even where Mien could do more than are asked of it, and a bunch waits.
    Where twice as many come as can be done, one more waits for each that is answered; where a
    fifth less come, hardly ever so many. So a bunch may take a share of the places at once, and
    more as requests are answered. What does not fit is refused. If that happens again and again,
    it is overload: whoever waited would only wait behind others, so no more than ``sustained``
    requests are at work at once until nobody has had to be refused for a while, or until fewer come
    than could be answered at the pace of those that were let in. (So few places refuse some at any
    rate; without the second rule a false alarm would feed itself.)

    Args:
        most: places.
        sustained: places under overload; with ``most`` or more there is no such distinction.
        clock: seconds, ever rising.
    """

    def __init__(
        self, most: int, sustained: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._most, self._sustained = most, min(most, sustained)
        self._sudden = max(self._sustained, round(_SUDDEN * most))
        self._clock = clock
        self._requests = self._streams = 0
        self._answered = 0  # since more than `sustained` have been at work
        self._refused: deque[float] = deque(maxlen=_SIGNS)  # when
        self._overload = False
        self._began = 0.0  # overload
        self._came: deque[float] = deque()  # when, in the seconds that are watched
        self._seconds: deque[float] = deque(maxlen=_PACE)  # that requests took under overload

    def are_full(self) -> bool:
        """Whether the next request has to be refused; it is taken to be, if so."""
        now = self._clock()
        self._came.append(now)
        while self._came[0] < now - _WATCHED_SECONDS:
            self._came.popleft()
        if self._overload and self._is_over(now):
            self._overload = False
            self._refused.clear()
        taken = self._requests + self._streams
        full = taken >= self._most or self._requests >= self._at_once()
        if full:
            self._refused.append(now)
            often = len(self._refused) == _SIGNS and now - self._refused[0] <= _SIGN_SECONDS
            if often and not self._overload:
                self._overload, self._began = True, now
                self._seconds.clear()
        return full

    def _is_over(self, now: float) -> bool:
        if now - self._refused[-1] > _CALM_SECONDS:
            return True
        if now - self._began < _WATCHED_SECONDS or len(self._seconds) < _LEAST:
            return False
        answerable = _WATCHED_SECONDS * self._sustained * len(self._seconds) / sum(self._seconds)
        return len(self._came) < answerable

    def _at_once(self) -> float:
        if self._overload:
            return self._sustained
        return self._sudden + _GROWTH * self._answered

    @contextmanager
    def request(self) -> Iterator[None]:
        """Keeps one taken by a request."""
        self._requests += 1
        crowded, began = self._overload, self._clock()
        try:
            yield
        finally:
            self._requests -= 1
            if crowded and self._overload:
                self._seconds.append(max(self._clock() - began, _SHORTEST))
            self._answered = self._answered + 1 if self._requests > self._sustained else 0

    @contextmanager
    def stream(self) -> Iterator[None]:
        """Keeps one taken by a stream, which lasts: overload is not told by it."""
        self._streams += 1
        try:
            yield
        finally:
            self._streams -= 1
