"""How many requests this machine answers in a second when it has nothing else to do."""

from __future__ import annotations

_USUAL = 60.0  # per second, before anything is known
_KNOWN = 8  # answers that this guess is worth
_MEMORY = 32  # answers, after which an old one counts a third
_SLOWEST, _FASTEST = 2.0, 2000.0


class Pace:
    """Answers by the time in which they were worked on, the newest counting most.

    A time in which only some of the requests were at work that the machine has hands for counts in
    part. A lone request is taken to keep more than one pair of them busy: it has two pictures.

    Args:
        hands: requests at work at once that keep the machine busy.
        now: seconds.
    """

    def __init__(self, hands: int, now: float) -> None:
        self._hands = hands
        self._answers, self._seconds = float(_KNOWN), _KNOWN / _USUAL
        self._now = now

    @property
    def per_second(self) -> float:
        """Between 2 and 2000."""
        return min(_FASTEST, max(_SLOWEST, self._answers / max(self._seconds, 1 / _FASTEST)))

    def passes(self, now: float, requests: int) -> None:
        """Time went by until now, in which so many requests were at work."""
        busy = min(1.0, (requests + 1) / (self._hands + 1)) if requests else 0.0
        self._seconds += busy * (now - self._now)
        self._now = now

    def answers(self) -> None:
        """A request was answered."""
        kept = 1 - 1 / _MEMORY
        self._answers = kept * (self._answers + 1)
        self._seconds *= kept
