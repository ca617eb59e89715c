"""An embedder behind a queue: batches across callers, told to the metrics."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from services.embedding.embedder import Embedder
from services.model_queue import QueueMetrics
from services.runtime.batcher import Batcher, BatcherOptions


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
