"""An embedder behind a queue: batches across callers, told to the metrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from services.embedding.embedder import Embedder
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


class EmbeddedCrop(NamedTuple):
    """What a model says of one crop.

    Attributes:
        vector: dimension float32, of unit length if the card says so.
        length: the vector times this is what the network gave.
        weight: what the crop counts for in a template; None for a model that has not learned it.
    """

    vector: NDArray[np.float32]
    length: float
    weight: float | None

    @property
    def feature(self) -> NDArray[np.float32]:
        """What the network gave."""
        return self.vector * np.float32(self.length)


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
        self.batcher: Batcher[bytes, EmbeddedCrop] = Batcher(
            self._work, options, QueueMetrics(embedder.card.reference)
        )

    async def close(self) -> None:
        """Finishes what is at work and frees the model."""
        await self.batcher.close()
        self.embedder.close()

    def _work(self, crops: list[bytes]) -> list[EmbeddedCrop]:
        batch = np.frombuffer(b"".join(crops), np.uint8).reshape(-1, *self._shape)
        done = self.embedder.embed_batch(batch)
        weights = [None] * len(crops) if done.weights is None else done.weights.tolist()
        rows = zip(done.vectors, done.lengths.tolist(), weights, strict=True)
        return [EmbeddedCrop(*row) for row in rows]


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
