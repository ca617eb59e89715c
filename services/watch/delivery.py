"""Hands events to somebody else in the background: a bounded queue, retries, and counts."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from typing import Any, Protocol, Self

import stamina

_ATTEMPTS = 6
_FIRST_WAIT, _LONGEST_WAIT = 0.2, 10.0  # seconds between attempts
_END_SECONDS = 10.0  # for what still waits when the command ends

Payload = dict[str, Any]
Notice = Callable[[str], None]
"""Is given sentences for people."""


class DeliveryError(Exception):
    """The other side cannot take an event; trying again is of no use."""


class TryAgainError(DeliveryError):
    """The other side did not take an event this time."""


class Receiver(Protocol):
    """Takes events.

    Attributes:
        name: for people; without secrets.
    """

    name: str

    async def deliver(self, payload: Payload) -> None:
        """Hands over one event.

        Raises:
            TryAgainError: it may work later.
            DeliveryError: it will not.
        """
        ...

    async def close(self) -> None:
        """Closes connections."""
        ...


@dataclass
class Deliveries:
    """What became of the events of one receiver.

    Attributes:
        delivered: taken.
        failed: given up after all attempts.
        overflowed: left out because too many waited.
    """

    delivered: int = 0
    failed: int = 0
    overflowed: int = 0

    def shown(self) -> dict[str, int]:
        """By name."""
        return asdict(self)


class Delivery:
    """A receiver with a queue before it; use it as an asynchronous context.

    Events are delivered in their order, one at a time. The stream of a camera never waits for it.

    Args:
        receiver: takes them.
        most: that may wait.
        notice: is told of the first event of a row that was not delivered.
    """

    def __init__(self, receiver: Receiver, most: int, notice: Notice) -> None:
        self.counts = Deliveries()
        self._receiver = receiver
        self._queue: asyncio.Queue[Payload] = asyncio.Queue(most)
        self._notice = notice
        self._troubled = False
        self._worker: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        """Of the receiver."""
        return self._receiver.name

    def put(self, payload: Payload) -> None:
        """Queues an event, or counts it where too many wait."""
        try:
            self._queue.put_nowait(payload)
        except asyncio.QueueFull:
            self.counts.overflowed += 1
            self._trouble("too many events wait; newer ones are left out")

    async def __aenter__(self) -> Self:
        self._worker = asyncio.create_task(self._work())
        return self

    async def __aexit__(self, *_: object) -> None:
        """Waits a while for what is queued; what is left then counts as failed."""
        joined = asyncio.create_task(self._queue.join())
        await asyncio.wait([joined], timeout=_END_SECONDS)
        joined.cancel()
        if self._worker is not None:
            self._worker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._worker
        self.counts.failed += self._queue.qsize()
        await self._receiver.close()

    async def _work(self) -> None:
        while True:
            payload = await self._queue.get()
            try:
                await _patiently(lambda payload=payload: self._receiver.deliver(payload))  # type: ignore[misc]
            except DeliveryError as error:
                self.counts.failed += 1
                self._trouble(str(error))
            except asyncio.CancelledError:
                self.counts.failed += 1
                raise
            else:
                self.counts.delivered += 1
                self._troubled = False
            finally:
                self._queue.task_done()

    def _trouble(self, why: str) -> None:
        if not self._troubled:
            self._notice(f"{self.name}: {why}")
        self._troubled = True


async def _patiently(work: Callable[[], Awaitable[None]]) -> None:
    async for attempt in stamina.retry_context(
        on=TryAgainError,
        attempts=_ATTEMPTS,
        timeout=None,
        wait_initial=_FIRST_WAIT,
        wait_max=_LONGEST_WAIT,
    ):
        with attempt:
            await work()
