"""Places for requests at work: many for a bunch of callers, few for as long as too many come."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from services.gateway.pace import Pace

_SUDDEN = (1 / 5, 1 / 3)  # of the places, which a bunch may take at once: at least, at most
_SUDDEN_SECONDS = 0.25  # in which such a bunch should be answered
_GROWTH = 0.3  # places more for each request that was answered since the bunch began
_SIGNS, _SIGN_ANSWERS = 4, 10  # so many refusals in the time of so many answers are overload
_CALM_ANSWERS = 16  # in the time of which nobody was refused: overload is over
_WATCHED_ANSWERS = 60  # in the time of which fewer came: it is over too


class Places:
    """Tells bunches of requests from overload, and keeps quick what overload lets in.

    Requests come in bunches even where Mien could do more than are asked of it, and a bunch waits.
    Where twice as many come as can be done, one more waits for each that is answered; where a
    fifth less come, hardly ever so many. So a bunch may take a share of the places at once, and
    more as requests are answered. What does not fit is refused. If that happens again and again,
    it is overload: whoever waited would only wait behind others, so no more than ``sustained``
    requests are at work at once until nobody has had to be refused for a while, or until fewer come
    than could be answered. (So few places refuse some at any rate; without the second rule a false
    alarm would feed itself.) What is soon, and what is a while, is counted in answers, at the pace
    of this machine: a slow one would never see its overload by the seconds of a fast one.

    Args:
        most: places.
        sustained: places under overload; with ``most`` or more there is no such distinction.
        clock: seconds, ever rising.
    """

    def __init__(
        self, most: int, sustained: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._most, self._sustained = most, min(most, sustained)
        self._clock = clock
        self._pace = Pace(self._sustained, clock())
        self._requests = self._streams = 0
        self._answered = 0  # since more than `sustained` have been at work
        self._refused: deque[float] = deque(maxlen=_SIGNS)  # when
        self._overload = False
        self._began = 0.0  # overload
        self._came: deque[float] = deque()  # when, in the time that is watched

    def are_full(self) -> bool:
        """Whether the next request has to be refused; it is taken to be, if so."""
        now, pace = self._clock(), self._pace.per_second
        self._came.append(now)
        while self._came[0] < now - _WATCHED_ANSWERS / pace:
            self._came.popleft()
        if self._overload and self._is_over(now, pace):
            self._overload = False
            self._refused.clear()
        taken = self._requests + self._streams
        full = taken >= self._most or self._requests >= self._at_once(pace)
        if full:
            self._refused.append(now)
            often = len(self._refused) == _SIGNS and now - self._refused[0] <= _SIGN_ANSWERS / pace
            if often and not self._overload:
                self._overload, self._began = True, now
        return full

    def _is_over(self, now: float, pace: float) -> bool:
        if now - self._refused[-1] > _CALM_ANSWERS / pace:
            return True
        watched = now - self._began >= _WATCHED_ANSWERS / pace
        return watched and len(self._came) < _WATCHED_ANSWERS

    def _at_once(self, pace: float) -> float:
        if self._overload:
            return self._sustained
        least, largest = (round(share * self._most) for share in _SUDDEN)
        sudden = min(largest, max(least, round(_SUDDEN_SECONDS * pace)))
        return max(self._sustained, sudden) + _GROWTH * self._answered

    @contextmanager
    def request(self) -> Iterator[None]:
        """Keeps one taken by a request."""
        self._pace.passes(self._clock(), self._requests)
        self._requests += 1
        try:
            yield
        finally:
            self._pace.passes(self._clock(), self._requests)
            self._pace.answers()
            self._requests -= 1
            self._answered = self._answered + 1 if self._requests > self._sustained else 0

    @contextmanager
    def stream(self) -> Iterator[None]:
        """Keeps one taken by a stream, which lasts: overload is not told by it."""
        self._streams += 1
        try:
            yield
        finally:
            self._streams -= 1
