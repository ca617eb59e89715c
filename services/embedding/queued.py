"""An embedder behind a queue: batches across callers, told to the metrics."""

from __future__ import annotations

import numpy as np

from services.embedding.embedder import Embedder, Vectors
from services.runtime.batcher import Batcher, BatcherOptions
from services.telemetry.metrics import BATCH_SIZE, DROPPED, INFERENCE, QUEUE_DEPTH


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
