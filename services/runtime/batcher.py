"""Batches the work of many callers for one engine: bounded, fair, and free of dead work.

It knows nothing of faces: a request is some rows, the work is a function from rows to rows.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Generic, Protocol, TypeVar

_Row = TypeVar("_Row")
_Out = TypeVar("_Out")

_SMOOTHING = 0.2  # weight of the newest batch in the running estimate of seconds per row


class QueueFullError(Exception):
    """There is no place left in the queue.

    Attributes:
        retry_after: seconds after which there is likely to be room.
    """

    def __init__(self, retry_after: float) -> None:
        super().__init__("the queue is full")
        self.retry_after = retry_after


class DeadlinePassedError(Exception):
    """The caller's deadline passed while the work was waiting; it was never started."""


class Priority(Enum):
    """Who waits for the work. The value is the share of rows while both wait."""

    INTERACTIVE = 8
    BULK = 1


@dataclass(frozen=True)
class BatcherOptions:
    """How batches are formed.

    Attributes:
        max_batch: most rows in one batch.
        max_wait: seconds that a batch which is not full may wait for more rows while another
            batch is at work; with nothing at work, none waits.
        max_rows: most rows that may wait; a request beyond that is refused at once.
        workers: batches at work at once. One more than the engine runs side by side lets a batch
            be prepared while the others are inferred.
    """

    max_batch: int = 32
    max_wait: float = 0.0
    max_rows: int = 256
    workers: int = 2


@dataclass(frozen=True)
class Done(Generic[_Out]):
    """A request's answer.

    Attributes:
        rows: one output for each row of the request, in its order.
        queue_seconds: time until its last row was taken up.
        work_seconds: time that the batches with its rows took.
    """

    rows: list[_Out]
    queue_seconds: float
    work_seconds: float


class Observer(Protocol):
    """Is told what the batcher does, for metrics."""

    def queued(self, rows: int) -> None:
        """So many rows wait now."""

    def ran(self, rows: int, seconds: float) -> None:
        """A batch of so many rows took so long."""

    def dropped(self, rows: int, why: str) -> None:
        """So many rows were given up before they were started."""

    def caller(self) -> object | None:
        """Who submits rows now, for `traced`; None for nobody of interest."""

    def traced(self, rows: int, seconds: float, callers: Sequence[tuple[Any, int, float]]) -> None:
        """A batch had rows of these callers: who, how many, and how many seconds they waited."""


@dataclass(eq=False)
class _Request(Generic[_Row, _Out]):
    rows: Sequence[_Row]
    deadline: float | None
    future: asyncio.Future[Done[_Out]]
    arrived: float
    outputs: list[_Out | None]
    taken: int = 0
    missing: int = 0
    queue_seconds: float = 0.0
    work_seconds: float = 0.0
    caller: object | None = None


@dataclass
class _Lane(Generic[_Row, _Out]):
    """The requests of one priority, and how much of its share they have used."""

    share: int
    requests: deque[_Request[_Row, _Out]] = field(default_factory=deque)
    used: float = 0.0


_Part = tuple[_Request[Any, Any], int, int]  # a request, and the range of its rows in a batch


class Batcher(Generic[_Row, _Out]):
    """Runs rows in batches on worker threads. All methods belong to one event loop.

    Args:
        work: takes a list of rows and returns one output for each; called on worker threads.
        options: limits.
        observer: told of queue, batches and dropped rows.
    """

    def __init__(
        self,
        work: Callable[[list[_Row]], Sequence[_Out]],
        options: BatcherOptions,
        observer: Observer | None = None,
    ) -> None:
        self._work = work
        self._options = options
        self._observer = observer
        self._pool = ThreadPoolExecutor(options.workers, thread_name_prefix="batch")
        self._lanes: dict[Priority, _Lane[_Row, _Out]] = {
            priority: _Lane(priority.value) for priority in Priority
        }
        self._waiting = 0
        self._at_work = 0
        self._seconds_per_row = 0.0
        self._served_to = 0.0  # how far the lane that was served last had come
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    @property
    def waiting(self) -> int:
        """Rows that wait now."""
        return self._waiting

    async def submit(
        self,
        rows: Sequence[_Row],
        *,
        deadline: float | None = None,
        priority: Priority = Priority.INTERACTIVE,
    ) -> Done[_Out]:
        """Waits for the outputs of some rows. Cancelling the wait gives up what has not begun.

        Args:
            rows: at least one.
            deadline: `time.monotonic` after which nobody wants the answer.
            priority: who waits for it.

        Raises:
            QueueFullError: at once, when there is no room.
            DeadlinePassedError: the deadline passed before the work was begun.
            Exception: whatever the work raised.
        """
        if self._closed or self._waiting + len(rows) > self._options.max_rows:
            raise QueueFullError(self._time_to_room(len(rows)))
        loop = asyncio.get_running_loop()
        request: _Request[_Row, _Out] = _Request(
            rows=rows,
            deadline=deadline,
            future=loop.create_future(),
            arrived=time.monotonic(),
            outputs=[None] * len(rows),
            missing=len(rows),
            caller=self._observer.caller() if self._observer else None,
        )
        lane = self._lanes[priority]
        if not lane.requests:
            # A lane that was empty has saved nothing up: it starts level with the others.
            lane.used = max(lane.used, self._served_to)
        lane.requests.append(request)
        self._change_waiting(len(rows))
        self._dispatch()
        return await request.future

    async def close(self) -> None:
        """Refuses new work, lets what is at work finish, and gives up what waits."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for lane in self._lanes.values():
            while lane.requests:
                self._give_up(lane.requests.popleft(), "closed", QueueFullError(1.0))
        await asyncio.to_thread(self._pool.shutdown)

    def _dispatch(self) -> None:
        """Starts batches while there are rows and free workers."""
        while self._waiting and self._at_work < self._options.workers:
            self._drop_dead()
            if not self._waiting:
                return
            wait = self._wait_for_more()
            if wait > 0:
                if self._timer is None:
                    loop = asyncio.get_running_loop()
                    self._timer = loop.call_later(wait, self._wait_is_over)
                return
            self._start(self._take())

    def _wait_for_more(self) -> float:
        """Seconds that the next batch should still wait to be filled."""
        if self._at_work == 0 or self._waiting >= self._options.max_batch:
            return 0.0
        oldest = min(lane.requests[0].arrived for lane in self._lanes.values() if lane.requests)
        return oldest + self._options.max_wait - time.monotonic()

    def _wait_is_over(self) -> None:
        self._timer = None
        if self._waiting and self._at_work < self._options.workers:
            self._drop_dead()
            if self._waiting:
                self._start(self._take())
            self._dispatch()

    def _drop_dead(self) -> None:
        """Removes requests that nobody waits for any more, wherever they stand."""
        now = time.monotonic()
        for lane in self._lanes.values():
            if not any(_is_dead(request, now) for request in lane.requests):
                continue
            alive: deque[_Request[_Row, _Out]] = deque()
            for request in lane.requests:
                if request.future.done():
                    self._give_up(request, "caller gone", None)
                elif request.deadline is not None and request.deadline <= now:
                    self._give_up(request, "deadline passed", DeadlinePassedError())
                else:
                    alive.append(request)
            lane.requests = alive

    def _give_up(self, request: _Request[_Row, _Out], why: str, error: Exception | None) -> None:
        rows = len(request.rows) - request.taken
        self._change_waiting(-rows)
        if self._observer:
            self._observer.dropped(rows, why)
        if error is not None and not request.future.done():
            request.future.set_exception(error)

    def _take(self) -> list[_Part]:
        """Rows for one batch, from both lanes by their shares."""
        parts: list[_Part] = []
        room = self._fair_batch()
        while room and self._waiting:
            lane = min(
                (lane for lane in self._lanes.values() if lane.requests),
                key=lambda lane: lane.used,
            )
            request = lane.requests[0]
            # While the other lane waits too, a lane takes no more than its share at a time.
            count = min(room, len(request.rows) - request.taken, lane.share * 2)
            start = request.taken
            self._served_to = lane.used
            request.taken += count
            room -= count
            lane.used += count / lane.share
            self._change_waiting(-count)
            if parts and parts[-1][0] is request:
                parts[-1] = (request, parts[-1][1], start + count)
            else:
                parts.append((request, start, start + count))
            if request.taken == len(request.rows):
                lane.requests.popleft()
        return parts

    def _fair_batch(self) -> int:
        """Rows for the next batch: what waits, spread over the free workers."""
        free = self._options.workers - self._at_work
        spread = -(-self._waiting // free)
        return min(spread, self._options.max_batch)

    def _start(self, parts: list[_Part]) -> None:
        self._at_work += 1
        taken_up = time.monotonic()
        for request, _, _ in parts:
            request.queue_seconds = taken_up - request.arrived
        loop = asyncio.get_running_loop()
        batch = [row for request, start, stop in parts for row in request.rows[start:stop]]
        running = loop.run_in_executor(self._pool, self._work, batch)
        running.add_done_callback(lambda done: self._finish(parts, done, taken_up))

    def _finish(
        self, parts: list[_Part], done: asyncio.Future[Sequence[_Out]], taken_up: float
    ) -> None:
        self._at_work -= 1
        seconds = time.monotonic() - taken_up
        error = done.exception()
        outputs = [] if error else done.result()
        rows = sum(stop - start for _, start, stop in parts)
        self._learn(rows, seconds)
        if self._observer:
            self._observer.ran(rows, seconds)
            callers = [
                (request.caller, stop - start, request.queue_seconds)
                for request, start, stop in parts
                if request.caller is not None
            ]
            if callers:
                self._observer.traced(rows, seconds, callers)
        offset = 0
        for request, start, stop in parts:
            count = stop - start
            request.work_seconds = max(request.work_seconds, seconds)
            if not request.future.done():
                if error is not None:
                    request.future.set_exception(error)
                else:
                    self._deliver(request, start, outputs[offset : offset + count])
            offset += count
        if not self._closed:
            self._dispatch()

    def _deliver(self, request: _Request[_Row, _Out], start: int, outputs: Sequence[_Out]) -> None:
        request.outputs[start : start + len(outputs)] = outputs
        request.missing -= len(outputs)
        if request.missing == 0:
            complete = [output for output in request.outputs if output is not None]
            request.future.set_result(Done(complete, request.queue_seconds, request.work_seconds))

    def _learn(self, rows: int, seconds: float) -> None:
        sample = seconds / (rows * self._options.workers)
        old = self._seconds_per_row
        self._seconds_per_row = sample if old == 0 else old + _SMOOTHING * (sample - old)

    def _time_to_room(self, rows: int) -> float:
        excess = self._waiting + rows - self._options.max_rows
        return max(0.05, excess * self._seconds_per_row)

    def _change_waiting(self, by: int) -> None:
        self._waiting += by
        if self._observer:
            self._observer.queued(self._waiting)


def _is_dead(request: _Request[Any, Any], now: float) -> bool:
    return request.future.done() or (request.deadline is not None and request.deadline <= now)
