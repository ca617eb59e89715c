"""Reads a source in a thread of its own and hands its pictures to the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncGenerator

import stamina

from services.watch.sources import Picture, Source, SourceError

_LONGEST_WAIT = 10.0  # seconds between two attempts to open a camera again
_LOOK_SECONDS = 0.2


class Reader:
    """The pictures of a source, at their pace or as fast as they are taken.

    At their pace, a picture that nobody has taken when the next is there is left out and counted: a
    camera waits for nobody. A camera that breaks is opened again for as long as it takes, with
    growing pauses.

    Args:
        source: read in a thread.
        fast: as fast as pictures are taken, none left out; not of a live source.
    """

    def __init__(self, source: Source, *, fast: bool) -> None:
        self._source = source
        self._fast = fast and not source.live
        self.left_out = 0
        self._loop = asyncio.get_running_loop()
        self._slot: asyncio.Queue[Picture | SourceError | None] = asyncio.Queue()
        self._room = threading.Semaphore(1)
        self._stopping = threading.Event()

    @property
    def waits(self) -> bool:
        """True where it waits for whoever takes the pictures."""
        return self._fast

    async def pictures(self) -> AsyncGenerator[Picture, None]:
        """The pictures; a live source has no end.

        Raises:
            SourceError: the source cannot be opened, or not be read to its end.
        """
        threading.Thread(target=self._read, daemon=True, name="mien-watch-source").start()
        try:
            while (item := await self._slot.get()) is not None:
                self._room.release()
                if isinstance(item, SourceError):
                    raise item
                yield item
        finally:
            self._stopping.set()

    def _read(self) -> None:
        end: SourceError | None = None
        try:
            if self._source.live:
                self._read_live()
            else:
                self._read_once()
        except SourceError as error:
            end = error
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._slot.put_nowait, end)

    def _read_live(self) -> None:
        """Opens a camera again and again; the first time it must open."""
        self._read_once()
        while not self._stopping.is_set():
            for attempt in stamina.retry_context(
                on=self._goes_on, attempts=None, timeout=None, wait_max=_LONGEST_WAIT
            ):
                with attempt:
                    self._read_once()

    def _goes_on(self, error: Exception) -> bool:
        return isinstance(error, SourceError) and not self._stopping.is_set()

    def _read_once(self) -> None:
        """Reads to the end; an end or a break after a first picture is no error of a camera."""
        seen = False
        ahead: float | None = None
        try:
            for picture in self._source.pictures():
                seen = True
                now = time.time()
                ahead = picture.captured - now if ahead is None else ahead
                if self._stopped_while_waiting(picture.captured - ahead - now):
                    return
                self._hand_over(picture)
        except SourceError:
            if not (seen and self._source.live):
                raise

    def _stopped_while_waiting(self, seconds: float) -> bool:
        """Waits until a picture is due, or for room; True if nobody wants more."""
        if not self._fast:
            paced = not self._source.live and seconds > 0
            return self._stopping.wait(seconds) if paced else self._stopping.is_set()
        while not self._room.acquire(timeout=_LOOK_SECONDS):
            if self._stopping.is_set():
                return True
        return self._stopping.is_set()

    def _hand_over(self, picture: Picture) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._put, picture)

    def _put(self, picture: Picture) -> None:
        if not self._fast:
            while not self._slot.empty():
                self._slot.get_nowait()
                self.left_out += 1
        self._slot.put_nowait(picture)
