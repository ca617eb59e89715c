"""One enhancer: what its card says is done to a crop, the network, the picture."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.ddat.degradations import decimate, levels, scaled, up_sample
from models.nir_cyclegan.pictures import equalised
from models.zoo import EnhancerCard, Zoo
from services.model_queue import QueueMetrics
from services.runtime import Engine, EngineError, EngineOptions, Gate, load_engine
from services.runtime.batcher import Batcher, BatcherOptions
from services.settings import EngineSettings

Pixels = NDArray[np.uint8]

PICTURE_RANGE = (-1.0, 1.0)
"""What pixel values 0 and 255 become at the network's input."""

LEAST_SIDE = 6
"""Fewest pixels across a crop: below, nothing of a face is left."""


class Poor(NamedTuple):
    """A crop as it came.

    Attributes:
        pixels: side x side x 3, RGB, 0-255.
        native_side: pixels of the photograph across it.
    """

    pixels: Pixels
    native_side: float


class Enhancer:
    """An enhancer that is loaded and ready.

    Args:
        card: what the network takes and gives.
        engine: the network.

    Raises:
        EngineError: the network does not do what its card says.
    """

    def __init__(self, card: EnhancerCard, engine: Engine) -> None:
        self.card = card
        self.engine = engine
        self._input = engine.info.inputs[0].name
        if card.output not in [info.name for info in engine.info.outputs]:
            raise EngineError(f"The network of {card.reference} has no output {card.output!r}.")
        blank = np.zeros((card.input.side, card.input.side, 3), np.uint8)
        self.enhance([Poor(blank, LEAST_SIDE)] * 2)  # also warms the engine up

    def enhance(self, crops: list[Poor]) -> list[Pixels]:
        """Redraws crops in one inference, on the caller's thread.

        Returns:
            side x side x 3 each, RGB, 0-255, of the card's side.

        Raises:
            EngineError: the network failed, or gave something else than such pictures.
        """
        side = self.card.input.side
        batch = np.stack([scaled(self.prepare(*crop)) for crop in crops])
        made = self.engine.infer({self._input: batch})[self.card.output]
        if made.shape != (len(crops), 3, side, side):
            raise EngineError(f"{self.card.reference} must give pictures of {side} x {side}.")
        if not np.isfinite(made).all():
            raise EngineError(f"{self.card.reference} gave values that are not finite.")
        return list(levels(made))

    def prepare(self, pixels: Pixels, native_side: float) -> Pixels:
        """A crop as the network was trained to see it.

        Args:
            pixels: any x any x 3, RGB, 0-255, square.
            native_side: pixels of the photograph across it.

        Returns:
            side x side x 3 of the card's side.
        """
        spec = self.card.input
        if spec.up_sampling == "nearest":
            cells = min(len(pixels), max(LEAST_SIDE, round(native_side)))
            pixels = decimate(pixels, cells)
        if len(pixels) != spec.side:
            pixels = up_sample(pixels, spec.up_sampling, spec.side)
        return equalised(pixels) if spec.equalise else pixels

    def close(self) -> None:
        """Frees the network's memory."""
        self.engine.close()


class QueuedEnhancer:
    """One enhancer and its queue. Its methods belong to one event loop.

    Args:
        enhancer: the network.
        options: limits of the queue.
    """

    def __init__(self, enhancer: Enhancer, options: BatcherOptions) -> None:
        self.enhancer = enhancer
        self.batcher: Batcher[Poor, Pixels] = Batcher(
            enhancer.enhance, options, QueueMetrics(enhancer.card.reference)
        )

    async def close(self) -> None:
        """Finishes what is at work and frees the network."""
        await self.batcher.close()
        self.enhancer.close()


def load_enhancer(zoo: Zoo, reference: str, engine: EngineSettings) -> Enhancer:
    """Loads an enhancer by name, through the parity gate.

    It runs here even where a Triton server runs the embedders.

    Args:
        zoo: holds the model.
        reference: name or name@version.
        engine: preference, precision and threads.

    Raises:
        UnknownModelError: no such enhancer.
        WeightsMissingError: its weights have not been pulled.
        EngineError: no engine can run it, or it does not fit its card.
    """
    card = zoo.enhancer(reference)
    preference = "auto" if engine.preference == "triton" else engine.preference
    loaded = load_engine(
        zoo.weights(card),
        preference,
        EngineOptions(threads=engine.threads),
        precision=engine.precision,
        gate=Gate(PICTURE_RANGE, zoo.engines),
    )
    return Enhancer(card, loaded)
