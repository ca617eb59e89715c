"""Callers of one engine share it: bounded, fair, and no work is done for nobody."""

import asyncio
import threading
import time
from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any

import pytest

from services.runtime.batcher import (
    Batcher,
    BatcherOptions,
    DeadlinePassedError,
    Priority,
    QueueFullError,
)


class Worker:
    """Doubles numbers, and remembers each batch."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.batches: list[list[int]] = []
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, rows: list[int]) -> Sequence[int]:
        self.batches.append(list(rows))
        self.gate.wait(10)
        time.sleep(self.seconds)
        if -1 in rows:
            raise RuntimeError("a bad row")
        return [row * 2 for row in rows]

    @property
    def seen(self) -> list[int]:
        return [row for batch in self.batches for row in batch]


CALLER: ContextVar[str | None] = ContextVar("caller", default=None)


class Counter:
    """An observer that adds up."""

    def __init__(self) -> None:
        self.depth = 0
        self.most = 0
        self.rows = 0
        self.given_up: dict[str, int] = {}
        self.batches: list[tuple[int, list[tuple[object, int]]]] = []

    def queued(self, rows: int) -> None:
        self.depth = rows
        self.most = max(self.most, rows)

    def ran(self, rows: int, seconds: float) -> None:
        assert seconds >= 0
        self.rows += rows

    def dropped(self, rows: int, why: str) -> None:
        self.given_up[why] = self.given_up.get(why, 0) + rows

    def caller(self) -> object | None:
        return CALLER.get()

    def traced(self, rows: int, seconds: float, callers: Sequence[tuple[Any, int, float]]) -> None:
        assert seconds >= 0
        assert all(waited >= 0 for _, _, waited in callers)
        self.batches.append((rows, [(who, own) for who, own, _ in callers]))


async def until(condition: object) -> None:
    assert callable(condition)
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it did not happen")


async def test_each_caller_gets_its_own_rows_in_order() -> None:
    worker = Worker(0.001)
    batcher = Batcher(worker, BatcherOptions(max_batch=7, workers=2))
    wanted = [list(range(start, start + start % 5 + 1)) for start in range(0, 200, 10)]
    answers = await asyncio.gather(*(batcher.submit(rows) for rows in wanted))
    assert [done.rows for done in answers] == [[row * 2 for row in rows] for rows in wanted]
    assert max(len(batch) for batch in worker.batches) <= 7
    await batcher.close()


async def test_callers_that_come_while_the_engine_works_share_a_batch() -> None:
    worker = Worker()
    worker.gate.clear()
    batcher = Batcher(worker, BatcherOptions(max_batch=32, workers=1))
    first = asyncio.create_task(batcher.submit([0]))
    await until(lambda: worker.batches)
    others = [asyncio.create_task(batcher.submit([row])) for row in range(1, 21)]
    await until(lambda: batcher.waiting == 20)
    worker.gate.set()
    await asyncio.gather(first, *others)
    assert [len(batch) for batch in worker.batches] == [1, 20]
    await batcher.close()


async def test_an_idle_engine_is_not_kept_waiting() -> None:
    batcher = Batcher(Worker(), BatcherOptions(max_batch=32, max_wait=5.0, workers=1))
    started = time.monotonic()
    await batcher.submit([1])
    assert time.monotonic() - started < 1.0
    await batcher.close()


async def test_a_busy_engine_waits_for_a_fuller_batch_but_not_for_ever() -> None:
    worker = Worker()
    worker.gate.clear()
    batcher = Batcher(worker, BatcherOptions(max_batch=32, max_wait=0.1, workers=2))
    tasks = [asyncio.create_task(batcher.submit([0]))]
    await until(lambda: len(worker.batches) == 1)
    tasks.append(asyncio.create_task(batcher.submit([1])))
    await asyncio.sleep(0.03)
    tasks.append(asyncio.create_task(batcher.submit([2])))
    assert len(worker.batches) == 1
    await until(lambda: len(worker.batches) == 2)
    assert worker.batches[1] == [1, 2]
    worker.gate.set()
    await asyncio.gather(*tasks)
    await batcher.close()


async def test_a_full_batch_does_not_wait() -> None:
    worker = Worker()
    worker.gate.clear()
    batcher = Batcher(worker, BatcherOptions(max_batch=4, max_wait=30.0, workers=2))
    tasks = [asyncio.create_task(batcher.submit([0]))]
    await until(lambda: len(worker.batches) == 1)
    tasks += [asyncio.create_task(batcher.submit([row])) for row in range(1, 5)]
    await until(lambda: len(worker.batches) == 2)
    worker.gate.set()
    await asyncio.gather(*tasks)
    await batcher.close()


async def test_a_request_larger_than_a_batch_is_split_and_put_together() -> None:
    worker = Worker()
    batcher = Batcher(worker, BatcherOptions(max_batch=4, workers=2))
    done = await batcher.submit(list(range(19)))
    assert done.rows == [row * 2 for row in range(19)]
    assert len(worker.batches) >= 5
    await batcher.close()


async def test_a_full_queue_refuses_at_once_and_says_when_to_come_back() -> None:
    worker = Worker(0.02)
    counter = Counter()
    batcher = Batcher(worker, BatcherOptions(max_batch=2, max_rows=4, workers=1), counter)
    await batcher.submit([0])
    worker.gate.clear()
    tasks = [asyncio.create_task(batcher.submit([row])) for row in range(1, 6)]
    await until(lambda: batcher.waiting == 4)
    started = time.monotonic()
    with pytest.raises(QueueFullError) as refused:
        await batcher.submit([9])
    assert time.monotonic() - started < 0.01
    assert 0 < refused.value.retry_after < 10
    worker.gate.set()
    await asyncio.gather(*tasks)
    assert 9 not in worker.seen
    assert counter.depth == 0
    assert counter.most == 4
    assert counter.rows == 6
    await batcher.close()


async def test_work_whose_deadline_has_passed_is_never_started() -> None:
    worker = Worker()
    worker.gate.clear()
    counter = Counter()
    batcher = Batcher(worker, BatcherOptions(workers=1), counter)
    first = asyncio.create_task(batcher.submit([0]))
    await until(lambda: worker.batches)
    late = asyncio.create_task(batcher.submit([1, 2], deadline=time.monotonic() + 0.02))
    fine = asyncio.create_task(batcher.submit([3], deadline=time.monotonic() + 60))
    await asyncio.sleep(0.05)
    worker.gate.set()
    with pytest.raises(DeadlinePassedError):
        await late
    assert (await fine).rows == [6]
    await first
    assert worker.seen == [0, 3]
    assert counter.given_up == {"deadline passed": 2}
    await batcher.close()


async def test_a_batch_names_every_caller_of_interest_and_its_rows() -> None:
    worker = Worker()
    worker.gate.clear()
    counter = Counter()
    batcher = Batcher(worker, BatcherOptions(workers=1, max_batch=8), counter)

    async def submit(who: str | None, rows: list[int]) -> None:
        CALLER.set(who)
        await batcher.submit(rows)

    first = asyncio.create_task(submit(None, [0]))
    await until(lambda: worker.batches)
    rest = [
        asyncio.create_task(submit(who, rows))
        for who, rows in (("a", [1, 2]), (None, [3]), ("b", [4]))
    ]
    await asyncio.sleep(0.01)
    worker.gate.set()
    await asyncio.gather(first, *rest)
    assert counter.batches == [(4, [("a", 2), ("b", 1)])]
    await batcher.close()


async def test_work_whose_caller_has_gone_is_never_started() -> None:
    worker = Worker()
    worker.gate.clear()
    batcher = Batcher(worker, BatcherOptions(workers=1))
    first = asyncio.create_task(batcher.submit([0]))
    await until(lambda: worker.batches)
    gone = asyncio.create_task(batcher.submit([1]))
    stays = asyncio.create_task(batcher.submit([2]))
    await asyncio.sleep(0.01)
    gone.cancel()
    await asyncio.sleep(0.01)
    worker.gate.set()
    await asyncio.gather(first, stays)
    assert worker.seen == [0, 2]
    await batcher.close()


async def test_a_failing_batch_fails_only_its_own_callers() -> None:
    worker = Worker()
    batcher = Batcher(worker, BatcherOptions(max_batch=1, workers=1))
    outcomes = await asyncio.gather(
        *(batcher.submit([row]) for row in (1, -1, 2)), return_exceptions=True
    )
    assert isinstance(outcomes[1], RuntimeError)
    assert not isinstance(outcomes[0], BaseException)
    assert not isinstance(outcomes[2], BaseException)
    assert outcomes[2].rows == [4]
    await batcher.close()


async def test_bulk_work_does_not_starve_interactive_callers_nor_they_it() -> None:
    worker = Worker()
    worker.gate.clear()
    batcher = Batcher(worker, BatcherOptions(max_batch=9, max_rows=1000, workers=1))
    tasks = [asyncio.create_task(batcher.submit([0]))]
    await until(lambda: worker.batches)
    bulk = range(1000, 1300)
    interactive = range(1, 201)
    tasks += [asyncio.create_task(batcher.submit([r], priority=Priority.BULK)) for r in bulk]
    tasks += [asyncio.create_task(batcher.submit([r])) for r in interactive]
    await until(lambda: batcher.waiting == 500)
    worker.gate.set()
    await asyncio.gather(*tasks)
    order = worker.seen[1:]
    first_half = order[: 200 + 25]
    waiting = sum(row < 1000 for row in first_half)
    assert waiting >= 195, "interactive rows had to wait for bulk"
    assert len(first_half) - waiting >= 15, "bulk got nothing while interactive rows waited"
    await batcher.close()


async def test_a_quiet_lane_saves_nothing_up() -> None:
    worker = Worker()
    batcher = Batcher(worker, BatcherOptions(max_batch=9, max_rows=1000, workers=1))
    for row in range(100):
        await batcher.submit([row])
    worker.gate.clear()
    tasks = [asyncio.create_task(batcher.submit([0]))]
    await until(lambda: len(worker.batches) == 101)
    tasks += [
        asyncio.create_task(batcher.submit([r], priority=Priority.BULK)) for r in range(1000, 1100)
    ]
    tasks += [asyncio.create_task(batcher.submit([r])) for r in range(1, 33)]
    await until(lambda: batcher.waiting == 132)
    worker.gate.set()
    await asyncio.gather(*tasks)
    next_rows = worker.seen[101 : 101 + 36]
    assert sum(row < 1000 for row in next_rows) >= 28
    await batcher.close()


async def test_closing_gives_up_what_waits_and_finishes_what_is_at_work() -> None:
    worker = Worker()
    worker.gate.clear()
    batcher = Batcher(worker, BatcherOptions(max_batch=1, workers=1))
    at_work = asyncio.create_task(batcher.submit([1]))
    await until(lambda: worker.batches)
    waits = asyncio.create_task(batcher.submit([2]))
    await asyncio.sleep(0.01)
    closing = asyncio.create_task(batcher.close())
    with pytest.raises(QueueFullError):
        await waits
    worker.gate.set()
    await closing
    assert (await at_work).rows == [2]
    with pytest.raises(QueueFullError):
        await batcher.submit([3])
