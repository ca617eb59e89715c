"""How much the gateway does at once: places for requests, threads for pictures, time for each."""

from __future__ import annotations

import asyncio
import contextvars
import os
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from typing import TypeVar

from services.errors import Errors, MienError
from services.gateway.places import Places
from services.settings import GatewaySettings

_Result = TypeVar("_Result")
# Bunches at 80 % of what Mien can do fit in; the last of them waits for less than a second.
_IN_FLIGHT_PER_CPU = 24
_STREAMS_PER_CPU = 2
_RETRY_AFTER = 1.0  # seconds; a verification takes far less, so a place is free by then


class Capacity:
    """Shared by all that the gateway does, so that no kind of request starves the others.

    Args:
        settings: limits.
    """

    def __init__(self, settings: GatewaySettings) -> None:
        cpus = len(os.sched_getaffinity(0))
        # One more than CPUs: a thread waits for the detector's engine half of its time.
        workers = settings.workers or cpus + 1
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="picture")
        most = settings.max_in_flight or _IN_FLIGHT_PER_CPU * cpus
        # One for each CPU: one more answers hardly more, and everybody a half later.
        self._places = Places(most, settings.sustained_in_flight or cpus)
        self._streams = max(1, min(_STREAMS_PER_CPU * cpus, most // 2))
        self._seconds = settings.timeout_seconds

    def refuse_if_full(self) -> None:
        """Answers "busy" before a request is even read.

        Raises:
            MienError: all places for requests at work are taken.
        """
        if self._places.are_full():
            raise MienError(
                Errors.OVERLOADED,
                "All places for requests are taken.",
                retry_after=_RETRY_AFTER,
            )

    @contextmanager
    def permit(self) -> Iterator[None]:
        """Takes one of the places for requests at work.

        Raises:
            MienError: all are taken.
        """
        self.refuse_if_full()
        with self._places.request():
            yield

    @contextmanager
    def stream_permit(self) -> Iterator[None]:
        """Takes a place for a stream of requests, which lasts as long as its caller likes.

        No more than half of the places are for streams.

        Raises:
            MienError: all are taken, or those for streams are.
        """
        if self._streams == 0:
            raise MienError(
                Errors.OVERLOADED,
                "All places for streams of requests are taken.",
                retry_after=_RETRY_AFTER,
            )
        self.refuse_if_full()
        self._streams -= 1
        try:
            with self._places.stream():
                yield
        finally:
            self._streams += 1

    @asynccontextmanager
    async def time_limit(self) -> AsyncIterator[None]:
        """Ends work that takes too long.

        Raises:
            MienError: it did.
        """
        try:
            async with asyncio.timeout(self._seconds):
                yield
        except TimeoutError as error:
            raise MienError(Errors.DEADLINE_EXCEEDED, "The request took too long.") from error

    @asynccontextmanager
    async def admitted(self) -> AsyncIterator[None]:
        """Takes a place, and ends work that takes too long.

        Raises:
            MienError: all places are taken, or it took too long.
        """
        with self.permit():
            async with self.time_limit():
                yield

    async def in_pool(self, work: Callable[[], _Result]) -> _Result:
        """Runs work on a picture in one of the threads, with the request's id and span."""
        inside = contextvars.copy_context().run
        return await asyncio.get_running_loop().run_in_executor(self._pool, inside, work)

    async def close(self) -> None:
        """Frees the threads."""
        # What a refused or cancelled request left at work must end before the event loop does.
        await asyncio.to_thread(self._pool.shutdown, cancel_futures=True)
