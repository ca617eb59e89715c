"""What callers asked and were told: every call, and every enrolment until it is acknowledged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

GOOD = (200, 201)
REFUSED, TIMED_OUT, CUT = 0, -1, -2
"""In place of a status: nobody took the call; it was not answered in time; it broke off."""

_WORDS = {REFUSED: "no connection", TIMED_OUT: "no answer", CUT: "broken off"}


@dataclass(frozen=True)
class Call:
    """One call.

    Attributes:
        kind: what was asked, for example "verify".
        sent: monotonic seconds.
        ended: likewise.
        status: HTTP status, or `REFUSED`, `TIMED_OUT`, `CUT`.
        code: of Mien's error; empty where there is none.
        is_wrong: it was answered, and the answer is not true.
    """

    kind: str
    sent: float
    ended: float
    status: int
    code: str = ""
    is_wrong: bool = False

    @property
    def is_good(self) -> bool:
        """Whether it was answered, and truly."""
        return self.status in GOOD and not self.is_wrong

    @property
    def told(self) -> str:
        """What it ended in, for people."""
        word = _WORDS.get(self.status, str(self.status))
        return f"{word} {self.code}".strip()


@dataclass
class Enrolled:
    """One enrolment, sent with its key until it is acknowledged.

    Attributes:
        key: idempotency key.
        subject: whose.
        body: that is sent.
        vector: base64 of what is enrolled; None for a picture.
        template: id of the live model's template, as the acknowledgement tells it.
        acknowledged: monotonic seconds; 0 before that.
        found: it was looked for since, and found.
    """

    key: str
    subject: str
    body: dict[str, Any] = field(repr=False)
    vector: dict[str, Any] | None = field(default=None, repr=False)
    template: str = ""
    acknowledged: float = 0.0
    found: bool = False


@dataclass
class Journal:
    """All calls and enrolments of a run.

    Attributes:
        calls: in the order in which they ended.
        enrolled: by key, in the order in which they were first sent.
        in_flight: calls at work now, by kind.
    """

    calls: list[Call] = field(default_factory=list)
    enrolled: dict[str, Enrolled] = field(default_factory=dict)
    in_flight: Counter[str] = field(default_factory=Counter)

    def between(self, start: float, end: float = float("inf")) -> list[Call]:
        """Calls that were at work at some time between two moments."""
        return [one for one in self.calls if one.ended >= start and one.sent <= end]

    @property
    def acknowledged(self) -> list[Enrolled]:
        """Enrolments that were acknowledged."""
        return [one for one in self.enrolled.values() if one.acknowledged]


def told(calls: Iterable[Call]) -> dict[str, int]:
    """How often calls ended in what, where they did not end well."""
    return dict(Counter(one.told for one in calls if one.status not in GOOD))
