"""A stream of batches: two at work at once, answered in order, held back when there is no room."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable

from services.errors import Errors, MienError
from services.rpc.mien.v1 import mapping_pb2

Answered = Callable[[mapping_pb2.MapStreamResponse], Awaitable[None]]
"""Takes one answer; the next comes when it is done with it."""

Work = Callable[[mapping_pb2.MapRequest], Awaitable[mapping_pb2.MapResponse]]

_AHEAD = 2  # batches of one stream at work: one is unpacked while the other is inferred
_PAUSES = (0.02, 1.0)  # least and most seconds until a batch that found no room is tried again


async def stream(
    batches: AsyncIterator[mapping_pb2.MapStreamRequest],
    work: Work,
    answered: Answered,
    deadline: float | None,
) -> None:
    """Maps batch after batch.

    A batch is read when one of its stream's places is free; until then it waits at the caller. One
    that finds the queue full keeps its place and tries again: a stream is never told to come back
    later, it is slowed down.

    Args:
        batches: as they come.
        work: maps one.
        answered: takes the answers, in order.
        deadline: `time.monotonic` after which a batch is not tried again.

    Raises:
        MienError: names the first batch that failed; all before it have been answered.
    """
    turns: asyncio.Queue[asyncio.Task[mapping_pb2.MapResponse] | None] = asyncio.Queue()
    ahead = asyncio.Semaphore(_AHEAD)
    at_work: set[asyncio.Task[mapping_pb2.MapResponse]] = set()

    async def read() -> None:
        count = 0
        try:
            async for message in batches:
                await ahead.acquire()
                turn = asyncio.create_task(_patiently(work, message.batch, count, deadline))
                at_work.add(turn)
                turn.add_done_callback(at_work.discard)
                turns.put_nowait(turn)
                count += 1
        except MienError as error:
            raise _of_batch(error, count) from error

    reading = asyncio.create_task(read())
    # However the reading ends, it is looked at after what was read has been answered.
    reading.add_done_callback(lambda _: turns.put_nowait(None))
    index = 0
    try:
        while (turn := await turns.get()) is not None:
            batch = await turn
            await answered(mapping_pb2.MapStreamResponse(index=index, batch=batch))
            index += 1
            ahead.release()
        await reading
    finally:
        left = [reading, *at_work]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


async def _patiently(
    work: Work, request: mapping_pb2.MapRequest, index: int, deadline: float | None
) -> mapping_pb2.MapResponse:
    """Maps one batch, again and again while the queue is full."""
    least, most = _PAUSES
    while True:
        try:
            return await work(request)
        except MienError as error:
            late = deadline is not None and time.monotonic() >= deadline
            if error.error is not Errors.OVERLOADED or late:
                raise _of_batch(error, index) from error
            pause = min(max(error.retry_after or 0.0, least), most)
        await asyncio.sleep(pause)


def _of_batch(error: MienError, index: int) -> MienError:
    """The same error, with its batch named."""
    place = f"batches[{index}]"
    return MienError(
        error.error,
        f"Batch {index} of the stream: {error.detail}",
        field=f"{place}.{error.field}" if error.field else None,
        retry_after=error.retry_after,
    )
