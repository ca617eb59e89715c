"""One caller's stream: what it is told, in a queue that cannot grow for ever."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator

from services.cameras.messages import Message, Report
from services.errors import Errors, MienError

_MOST_REPORTS = 256  # waiting messages from which reports, which others follow, are left out
_MOST = 4096


class Session:
    """A stream. It belongs to one event loop.

    Args:
        tenant: whose cameras it sends.

    Attributes:
        cameras: ids of those whose frames it has sent last.
    """

    def __init__(self, tenant: str) -> None:
        self.tenant = tenant
        self.cameras: set[str] = set()
        self._messages: deque[Message] = deque()
        self._news = asyncio.Event()
        self._at_work = 0
        self._ended = False
        self._failure: MienError | None = None

    @property
    def failed(self) -> bool:
        """Whether it has been ended with an error."""
        return self._failure is not None

    def send(self, message: Message) -> None:
        """Tells the caller something; one that does not listen is given up."""
        waiting = len(self._messages)
        if self.failed or (waiting >= _MOST_REPORTS and isinstance(message, Report)):
            return
        if waiting >= _MOST:
            self.fail(MienError(Errors.OVERLOADED, "The answers are not read.", retry_after=1.0))
            return
        self._messages.append(message)
        self._news.set()

    def begin_work(self) -> None:
        """Something that may still tell the caller of it has begun."""
        self._at_work += 1

    def end_work(self) -> None:
        """It is done."""
        self._at_work -= 1
        self._news.set()

    def end(self) -> None:
        """The caller sends no more; the stream ends when all that it sent is done."""
        self._ended = True
        self._news.set()

    def fail(self, error: MienError) -> None:
        """Ends the stream at once."""
        self._failure = self._failure or error
        self._news.set()

    async def messages(self) -> AsyncIterator[Message]:
        """What the caller is told, until the stream ends.

        Raises:
            MienError: it was ended with it.
        """
        while True:
            while self._messages and not self.failed:
                yield self._messages.popleft()
            if self._failure is not None:
                raise self._failure
            if self._ended and self._at_work <= 0:
                return
            self._news.clear()
            await self._news.wait()
