"""Batches prepared a few steps ahead, by threads: OpenCV releases the interpreter's lock."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

AHEAD = 3

Item = TypeVar("Item")


def prepared(make: Callable[[int], Item], first: int, last: int, workers: int) -> Iterator[Item]:
    """Items of the steps in order, a few prepared ahead by threads."""
    with ThreadPoolExecutor(workers, "batch") as pool:
        waiting: deque[Future[Item]] = deque()
        try:
            for step in range(first, last):
                waiting.append(pool.submit(make, step))
                if len(waiting) >= AHEAD + workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
