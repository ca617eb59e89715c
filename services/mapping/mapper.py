"""One map between two embedding models: what its card says it takes and gives, and the network.

It runs in fp32, whatever the settings say of other networks. What it gives is stored for years and
compared with vectors that another machine maps; it must not depend on which of them had the faster
arithmetic. A map is small besides: there is little to be gained.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.zoo import MapCard, Zoo, ZooError
from models.zoo.map_vectors import LENGTH_TOLERANCE
from services.model_queue import QueueMetrics
from services.runtime import Engine, EngineError, EngineOptions, Gate, load_engine
from services.runtime.batcher import Batcher, BatcherOptions
from services.runtime.parity import STORED
from services.settings import EngineSettings

Vector = NDArray[np.float32]
Vectors = NDArray[np.float32]

PRECISION: Final = "fp32"

_NO_PIXELS = (0.0, 255.0)  # a map takes no picture; the gate gives it unit vectors


class MappedVector(NamedTuple):
    """What a map makes of one vector.

    Attributes:
        vector: target dimension float32, of length 1.
        confidence: predicted cosine to the target model's own vector, -1 to 1.
    """

    vector: Vector
    confidence: float


class Mapper:
    """A map that is loaded and ready.

    Args:
        card: what the network takes and gives.
        engine: the network.

    Raises:
        EngineError: the network does not do what its card says.
    """

    def __init__(self, card: MapCard, engine: Engine) -> None:
        self.card = card
        self.engine = engine
        names = card.tensors
        given = sorted(info.name for info in engine.info.outputs)
        # Inside an R3AN map there is a recovered face. A graph that gives anything but vectors and
        # confidences is not run at all, so that no interface can pass it on.
        if given != sorted((names.mapped, names.confidence)):
            raise EngineError(
                f"The network of {card.reference} must give {names.mapped!r} and "
                f"{names.confidence!r} and nothing else; it gives {', '.join(given)}."
            )
        if [info.name for info in engine.info.inputs] != [names.vector]:
            raise EngineError(
                f"The network of {card.reference} must take {names.vector!r} and nothing else."
            )
        width = engine.info.inputs[0].shape[-1]
        if width not in (-1, card.source.dimension):
            raise EngineError(
                f"source.dimension: the card of {card.reference} says {card.source.dimension}, "
                f"the network takes {width}."
            )
        self.map(np.eye(2, card.source.dimension, dtype=np.float32))  # also warms the engine up

    def map(self, vectors: Vectors) -> list[MappedVector]:
        """Maps vectors in one inference, on the caller's thread.

        Args:
            vectors: N x source dimension float32, of length 1.

        Raises:
            EngineError: the network failed, or gave something else than unit vectors and cosines.
        """
        card = self.card
        answer = self.engine.infer({card.tensors.vector: vectors})
        mapped, trust = answer[card.tensors.mapped], answer[card.tensors.confidence]
        if mapped.shape != (len(vectors), card.target.dimension):
            raise EngineError(
                f"target.dimension: the card of {card.reference} says {card.target.dimension}, "
                f"the network gives {'x'.join(map(str, mapped.shape[1:]))}."
            )
        if trust.shape != (len(vectors), 1):
            raise EngineError(f"{card.reference} must give one confidence for each vector.")
        # Values that are not numbers fail both.
        if not (np.abs(np.linalg.norm(mapped, axis=1) - 1) <= LENGTH_TOLERANCE).all():
            raise EngineError(f"{card.reference} gave vectors whose length is not 1.")
        if not (np.abs(trust) <= 1).all():
            raise EngineError(f"{card.reference} gave a confidence that is not from -1 to 1.")
        rows = zip(mapped, trust[:, 0].tolist(), strict=True)
        return [MappedVector(*row) for row in rows]

    def close(self) -> None:
        """Frees the network's memory."""
        self.engine.close()


class QueuedMapper:
    """One map and its queue. Its methods belong to one event loop.

    Args:
        mapper: the network.
        options: limits of the queue.
    """

    def __init__(self, mapper: Mapper, options: BatcherOptions) -> None:
        self.mapper = mapper
        self.batcher: Batcher[Vector, MappedVector] = Batcher(
            self._work, options, QueueMetrics(mapper.card.reference)
        )

    async def close(self) -> None:
        """Finishes what is at work and frees the network."""
        await self.batcher.close()
        self.mapper.close()

    def _work(self, rows: list[Vector]) -> list[MappedVector]:
        return self.mapper.map(np.stack(rows))


def load_mapper(zoo: Zoo, reference: str, engine: EngineSettings) -> Mapper:
    """Loads a map by name, in fp32 and through a gate of parity of its own.

    It runs here even where a Triton server runs the embedders.

    Args:
        zoo: holds the map.
        reference: name or name@version.
        engine: preference and threads.

    Raises:
        UnknownModelError: no such map.
        WeightsMissingError: its weights are not here.
        EngineError: no engine can run it, or it does not fit its card.
    """
    card = zoo.map(reference)
    preference = "auto" if engine.preference == "triton" else engine.preference
    loaded = load_engine(
        zoo.weights(card),
        preference,
        EngineOptions(threads=engine.threads),
        precision=PRECISION,
        gate=Gate(_NO_PIXELS, zoo.engines, STORED),
    )
    return Mapper(card, loaded)


def probe_map(card: MapCard, weights: Path) -> None:
    """Runs a map once, to see whether it does what its card says.

    Raises:
        ZooError: no engine can load it, or it does not.
    """
    try:
        engine = load_engine(weights, "auto", EngineOptions(threads=1))
        Mapper(card, engine).close()
    except EngineError as error:
        raise ZooError(str(error)) from error
