"""A network's queue, as every model service has one: its errors are Mien's, and it is measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from services.errors import Errors, MienError
from services.runtime import Engine, EngineError
from services.runtime.batcher import (
    Batcher,
    BatcherOptions,
    DeadlinePassedError,
    Done,
    Priority,
    QueueFullError,
)
from services.runtime.triton_engine import EngineBusyError
from services.settings import QueueSettings
from services.telemetry import get_logger, tracing
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


def queue_limits(engine: Engine, settings: QueueSettings) -> BatcherOptions:
    """Limits of a network's queue."""
    return BatcherOptions(
        max_batch=settings.batch_rows,
        max_wait=settings.batch_wait_ms / 1e3,
        max_rows=max(settings.queue_rows, settings.max_batch),
        # One more than the engine's streams: it is prepared while the others are inferred.
        workers=engine.info.streams + 1,
    )


class QueueMetrics:
    """Tells Prometheus what a queue does.

    Args:
        model: the label that it does so under.
    """

    def __init__(self, model: str) -> None:
        self._model = model
        self._depth = QUEUE_DEPTH.labels(model)
        self._size = BATCH_SIZE.labels(model)
        self._seconds = INFERENCE.labels(model)

    def queued(self, rows: int) -> None:
        """So many rows wait now."""
        self._depth.set(rows)

    def ran(self, rows: int, seconds: float) -> None:
        """A batch of so many rows took so long."""
        self._size.observe(rows)
        self._seconds.observe(seconds)

    def dropped(self, rows: int, why: str) -> None:
        """So many rows were given up before they were started."""
        DROPPED.labels(self._model, why).inc(rows)

    def caller(self) -> object | None:
        """The span that rows are submitted in, if it is traced."""
        return tracing.caller()

    def traced(self, rows: int, seconds: float, callers: Sequence[tuple[Any, int, float]]) -> None:
        """A batch had rows of these spans."""
        tracing.record_batch(self._model, rows, seconds, callers)
