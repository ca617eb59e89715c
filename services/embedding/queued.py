"""An embedder behind a queue: batches across callers, told to the metrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from services.embedding.embedder import Embedder, Vectors
from services.errors import Errors, MienError
from services.runtime import EngineError
from services.runtime.batcher import (
    Batcher,
    BatcherOptions,
    DeadlinePassedError,
    Done,
    Priority,
    QueueFullError,
)
from services.runtime.triton_engine import EngineBusyError
from services.telemetry import get_logger
from services.telemetry.metrics import BATCH_SIZE, DROPPED, INFERENCE, QUEUE_DEPTH

_Row = TypeVar("_Row")
_Out = TypeVar("_Out")
_BUSY_SECONDS = 1.0  # a server whose own queue is full does not say for how long
_log = get_logger(__name__)


async def submitted(
    batcher: Batcher[_Row, _Out],
    rows: Sequence[_Row],
    reference: str,
    deadline: float | None = None,
    priority: Priority = Priority.INTERACTIVE,
) -> Done[_Out]:
    """Waits for rows; a caller that goes cancels the wait, and so gives them up.

    Args:
        batcher: of the model.
        rows: at least one.
        reference: the model, for the log.
        deadline: `time.monotonic` after which nobody wants the answer.
        priority: who waits for it.

    Raises:
        MienError: the queue or the model's server is full, the deadline passed, or the network
            could not be run.
    """
    try:
        return await batcher.submit(rows, deadline=deadline, priority=priority)
    except QueueFullError as error:
        raise MienError(
            Errors.OVERLOADED, "The model's queue is full.", retry_after=error.retry_after
        ) from error
    except DeadlinePassedError as error:
        raise MienError(Errors.DEADLINE_EXCEEDED, "The deadline passed in the queue.") from error
    except EngineBusyError as error:
        raise MienError(
            Errors.OVERLOADED, "The model's server is full.", retry_after=_BUSY_SECONDS
        ) from error
    except EngineError as error:
        _log.error("inference failed", model=reference, cause=str(error))
        raise MienError(Errors.INTERNAL, "The network could not be run.") from error


class QueuedEmbedder:
    """One model and its queue. Its methods belong to one event loop.

    Args:
        embedder: the model.
        options: limits of the queue; ``workers`` is set to one more than the engine's streams.
    """

    def __init__(self, embedder: Embedder, options: BatcherOptions) -> None:
        self.embedder = embedder
        spec = embedder.card.input
        self._shape = (spec.height, spec.width, 3)
        self.batcher: Batcher[bytes, Vectors] = Batcher(
            self._work, options, _Metrics(embedder.card.reference)
        )

    async def close(self) -> None:
        """Finishes what is at work and frees the model."""
        await self.batcher.close()
        self.embedder.close()

    def _work(self, crops: list[bytes]) -> list[Vectors]:
        batch = np.frombuffer(b"".join(crops), np.uint8).reshape(-1, *self._shape)
        return list(self.embedder.embed_batch(batch))


class _Metrics:
    """Tells Prometheus what a queue does."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._depth = QUEUE_DEPTH.labels(model)
        self._size = BATCH_SIZE.labels(model)
        self._seconds = INFERENCE.labels(model)

    def queued(self, rows: int) -> None:
        self._depth.set(rows)

    def ran(self, rows: int, seconds: float) -> None:
        self._size.observe(rows)
        self._seconds.observe(seconds)

    def dropped(self, rows: int, why: str) -> None:
        DROPPED.labels(self._model, why).inc(rows)
