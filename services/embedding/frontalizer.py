"""Draws the face that an embedder saw in another pose, with the decoder of its model.

For human review only: what is drawn is synthetic, is never stored and never compared. It runs on an
engine and in a queue of its own, on one thread, so that recognition does not wait for it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.zoo import Decoder, EmbedderCard, Zoo
from services.embedding.queued import EmbeddedCrop
from services.model_queue import QueueMetrics
from services.runtime import Engine, EngineError, EngineOptions, Gate, load_engine
from services.runtime.batcher import Batcher, BatcherOptions
from services.settings import EngineSettings

Pictures = NDArray[np.uint8]

MAX_CROPS = 16
"""Most crops in one call: a reviewer looks at a few."""

_BATCH_ROWS = 4
_QUEUE_ROWS = 4 * MAX_CROPS
_WHITE = 127.5  # -1 to 1 becomes 0 to 255


class Frontalizer:
    """A decoder that is loaded and ready.

    Args:
        card: of the model that it belongs to; it names a decoder.
        engine: the decoder's network.

    Raises:
        EngineError: the card names no decoder, or the network does not do what it says.
    """

    def __init__(self, card: EmbedderCard, engine: Engine) -> None:
        if card.decoder is None:
            raise EngineError(f"{card.reference} has no decoder.")
        self.card = card
        self.decoder: Decoder = card.decoder
        self._engine = engine
        self._check()

    def nearest(self, yaw: float) -> int:
        """Place of the bin nearest to a yaw in degrees; of two, the one nearer to frontal."""
        bins = self.decoder.yaw_bins
        return min(range(len(bins)), key=lambda place: (abs(bins[place] - yaw), abs(bins[place])))

    def feature(self, crop: EmbeddedCrop) -> NDArray[np.float32]:
        """What the decoder is to draw a crop from.

        A model that adds the vector of the mirrored crop is drawn from the mean of the two: to the
        decoder they are two pictures of one person, which it learned to draw from their mean.
        """
        return crop.feature / np.float32(2.0 if self.card.output.flip_sum else 1.0)

    def draw(self, features: NDArray[np.float32], poses: list[int]) -> Pictures:
        """Draws faces, with no noise: the same vector always gives the same picture.

        Args:
            features: N x dimension, as the embedder's network gives them.
            poses: N places of yaw bins.

        Returns:
            N x height x width x 3, RGB, 0-255, of the model's crop size.

        Raises:
            EngineError: the network failed, or gave something else than such pictures.
        """
        names, decoder, spec = self.decoder.tensors, self.decoder, self.card.input
        codes = np.zeros((len(poses), len(decoder.yaw_bins)), np.float32)
        codes[np.arange(len(poses)), poses] = 1.0
        noise = np.zeros((len(poses), decoder.noise), np.float32)
        given = {names.embedding: features, names.pose: codes, names.noise: noise}
        drawn = self._engine.infer(given)[names.image]
        if drawn.shape != (len(poses), 3, spec.height, spec.width):
            raise EngineError(f"It must draw RGB pictures of {spec.width} x {spec.height}.")
        if not np.isfinite(drawn).all():
            raise EngineError("It gave values that are not finite.")
        scaled = np.rint((drawn + 1.0) * _WHITE).clip(0, 255).astype(np.uint8)
        return np.ascontiguousarray(scaled.transpose(0, 2, 3, 1))

    def close(self) -> None:
        """Frees the network's memory."""
        self._engine.close()

    def _check(self) -> None:
        """Runs it once."""
        name, reference = self.decoder.tensors.image, self.card.reference
        if name not in [info.name for info in self._engine.info.outputs]:
            raise EngineError(f"The decoder of {reference} has no output {name!r}.")
        try:
            self.draw(np.zeros((2, self.card.output.dimension), np.float32), [0, 0])
        except EngineError as error:
            raise EngineError(
                f"The decoder of {reference} does not fit its card. {error}"
            ) from error


class Sketch(NamedTuple):
    """One picture to be drawn: from what, and the place of its yaw bin."""

    feature: NDArray[np.float32]
    pose: int


class QueuedFrontalizer:
    """A decoder and its queue. Its methods belong to one event loop."""

    def __init__(self, frontalizer: Frontalizer) -> None:
        self.frontalizer = frontalizer
        options = BatcherOptions(max_batch=_BATCH_ROWS, max_rows=_QUEUE_ROWS, workers=1)
        self.batcher: Batcher[Sketch, Pictures] = Batcher(
            self._work, options, QueueMetrics(f"{frontalizer.card.reference} decoder")
        )

    async def close(self) -> None:
        """Finishes what is at work and frees the network."""
        await self.batcher.close()
        self.frontalizer.close()

    def _work(self, sketches: list[Sketch]) -> list[Pictures]:
        features = np.stack([sketch.feature for sketch in sketches])
        return list(self.frontalizer.draw(features, [sketch.pose for sketch in sketches]))


def load_frontalizer(zoo: Zoo, card: EmbedderCard, engine: EngineSettings) -> Frontalizer:
    """Loads a model's decoder, here even where a Triton server runs its embedder.

    It runs in fp32, and through the gate all the same: that costs one comparison at the first
    start, and a picture that is wrong would mislead whoever looks at it.

    Raises:
        WeightsMissingError: the decoder is not here.
        ZooError: it is not the one that the card names, or the card names none.
        EngineError: no engine can run it, or it does not fit its card.
    """
    preference = "auto" if engine.preference == "triton" else engine.preference
    options = EngineOptions(threads=1)  # the other CPUs are left to recognition
    gate = Gate((-1.0, 1.0), zoo.engines)
    return Frontalizer(
        card, load_engine(zoo.decoder(card), preference, options, precision="fp32", gate=gate)
    )
