"""Bulk enrolment: row after row, each answered in its order; a row that fails is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, replace

from services.errors import Errors, MienError
from services.gateway.capacity import Capacity
from services.gateway.enrol_command import EnrolCommand
from services.gateway.enrolment import EnrolAnswer, Enroller, Outcome
from services.telemetry import get_logger
from services.telemetry.metrics import ENROLMENTS

_log = get_logger(__name__)

Row = EnrolCommand | MienError
"""What is to be enrolled, or why the row could not be read."""


@dataclass(frozen=True)
class Progress:
    """How far a bulk enrolment has come: rows answered, and of these how many of each outcome."""

    rows: int = 0
    enrolled: int = 0
    repeated: int = 0
    refused: int = 0
    failed: int = 0

    def after(self, result: EnrolAnswer | MienError) -> Progress:
        """The progress with one row more."""
        name = "failed" if isinstance(result, MienError) else result.outcome.value
        return replace(self, rows=self.rows + 1, **{name: getattr(self, name) + 1})


@dataclass(frozen=True)
class BulkAnswer:
    """The answer to one row.

    Attributes:
        index: of the row, from 0.
        subject_id: as in the row; empty where it could not be read.
        result: what became of it, or why it failed.
        progress: this row included.
    """

    index: int
    subject_id: str
    result: EnrolAnswer | MienError
    progress: Progress


@dataclass(frozen=True)
class _Turn:
    """A row at work."""

    subject_id: str
    work: asyncio.Task[EnrolAnswer | MienError]


class BulkEnroller:
    """Enrols many.

    Args:
        enroller: enrols one.
        capacity: a bulk enrolment takes one place for all its rows, of those for streams.
        rows: worked on at once.
    """

    def __init__(self, enroller: Enroller, capacity: Capacity, rows: int) -> None:
        self._enroller = enroller
        self._capacity = capacity
        self._rows = rows

    async def enrol(self, tenant: str, rows: AsyncIterator[Row]) -> AsyncGenerator[BulkAnswer]:
        """Enrols rows as fast as they are answered.

        Args:
            tenant: whose subjects.
            rows: each independent of the others.

        Raises:
            MienError: all places for requests are taken, before the first row; later failures are
                answers of their rows.
        """
        with self._capacity.stream_permit():
            turns: asyncio.Queue[_Turn | None] = asyncio.Queue()
            room = asyncio.Semaphore(self._rows)
            reading = asyncio.create_task(self._read(tenant, rows, turns, room))
            # However the reading ends, it is looked at after what was read has been answered.
            reading.add_done_callback(lambda _: turns.put_nowait(None))
            index, progress = 0, Progress()
            turn: _Turn | None = None
            try:
                while (turn := await turns.get()) is not None:
                    result = await turn.work
                    progress = progress.after(result)
                    yield BulkAnswer(index, turn.subject_id, result, progress)
                    index += 1
                    room.release()
                await reading
            finally:
                await _give_up(reading, turn, turns)

    async def _read(
        self,
        tenant: str,
        rows: AsyncIterator[Row],
        turns: asyncio.Queue[_Turn | None],
        room: asyncio.Semaphore,
    ) -> None:
        """Starts each row that there is room for; answers are awaited elsewhere meanwhile."""
        await room.acquire()
        async for row in rows:
            subject_id = row.subject_id if isinstance(row, EnrolCommand) else ""
            turns.put_nowait(_Turn(subject_id, asyncio.create_task(self._one(tenant, row))))
            await room.acquire()

    async def _one(self, tenant: str, row: Row) -> EnrolAnswer | MienError:
        if isinstance(row, MienError):
            ENROLMENTS.labels(row.kind.code).inc()
            return row
        try:
            return await self._enroller.enrol_row(tenant, row)
        except MienError as error:
            return error
        except Exception:  # noqa: BLE001 - a row of its own: logged, and answered without its text
            _log.exception("a row of a bulk enrolment failed")
            return MienError(Errors.INTERNAL, "The row failed inside Mien.")


async def _give_up(
    reading: asyncio.Task[None], turn: _Turn | None, turns: asyncio.Queue[_Turn | None]
) -> None:
    """Ends what is still at work, as when the caller has gone."""
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    left = [] if turn is None else [turn.work]
    while not turns.empty():
        waiting = turns.get_nowait()
        if waiting is not None:
            left.append(waiting.work)
    for work in left:
        work.cancel()
    await asyncio.gather(*left, return_exceptions=True)


def outcome_of(result: EnrolAnswer | MienError) -> str:
    """An outcome as a word: "failed" where the row did."""
    return "failed" if isinstance(result, MienError) else Outcome(result.outcome).value
