"""One embedding model: what its card says is done to a crop, the network, the vector."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.zoo import CropInput, EmbedderCard, Zoo, ZooError
from services.runtime import (
    Engine,
    EngineError,
    EngineOptions,
    Gate,
    PrecisionChoice,
    load_engine,
)
from services.runtime.triton_engine import RemoteModel, TritonEngine
from services.settings import EngineSettings
from services.triton_export import triton_identity

Crops = NDArray[np.uint8]
Vectors = NDArray[np.float32]

_MIN_NORM = 1e-12
_MIN_WEIGHT = 1e-6  # a sigmoid can round to 0; a set of nothing but such crops has a template too


@dataclass(frozen=True)
class Embedded:
    """What a model says of a batch of N crops.

    Attributes:
        vectors: N x dimension float32, of unit length if the card says so.
        lengths: N; a vector times this is what the network gave. 1 where nothing was scaled.
        weights: N, above 0 and up to 1: what each crop counts for in a template; None for a model
            that has not learned to weigh.
    """

    vectors: Vectors
    lengths: NDArray[np.float32]
    weights: NDArray[np.float32] | None


class Embedder:
    """An embedding model that is loaded and ready.

    Args:
        card: what the model takes and gives.
        engine: its network.
    """

    def __init__(self, card: EmbedderCard, engine: Engine) -> None:
        self.card = card
        self.engine = engine
        self._input = engine.info.inputs[0].name
        self._weight = card.output.weight
        names = [info.name for info in engine.info.outputs]
        others = [name for name in names if name != self._weight]
        self._output = card.output.name or (others or names)[0]
        for name in (self._output, self._weight):
            if name is not None and name not in names:
                raise EngineError(f"The network of {card.reference} has no output {name!r}.")
        self._streams = engine.info.streams
        self._pool = ThreadPoolExecutor(self._streams, thread_name_prefix=f"embed-{card.name}")

    @property
    def crop_bytes(self) -> int:
        """Bytes of one crop: height x width x 3."""
        return self.card.input.height * self.card.input.width * 3

    def embed(self, crops: Crops) -> Vectors:
        """Embeds a batch, spread over the engine's streams.

        Args:
            crops: N x height x width x 3, RGB, 0-255, of the card's size.

        Returns:
            N x dimension float32, of unit length if the card says so.

        Raises:
            EngineError: the network failed or gave values that are not finite.
        """
        parts = np.array_split(crops, min(self._streams, len(crops)))
        done = self._pool.map(self.embed_batch, parts)
        return np.concatenate([part.vectors for part in done])

    def embed_batch(self, crops: Crops) -> Embedded:
        """Embeds a batch in one inference, on the caller's thread; arguments as of `embed`.

        Raises:
            EngineError: the network failed, or gave values that are not finite or no weights.
        """
        batch = prepare_crops(crops, self.card.input)
        if self.card.output.flip_sum:
            batch = np.concatenate([batch, batch[..., ::-1]])
        answer = self.engine.infer({self._input: batch})
        vectors = answer[self._output].reshape(len(batch), -1)
        if self.card.output.flip_sum:
            vectors = vectors[: len(crops)] + vectors[len(crops) :]
        if not np.isfinite(vectors).all():
            raise EngineError(f"{self.card.reference} gave values that are not finite.")
        lengths = np.ones((len(crops), 1), np.float32)
        if self.card.output.normalise:
            lengths = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), _MIN_NORM)
            vectors /= lengths
        weights = None if self._weight is None else self._weights(answer[self._weight], len(crops))
        return Embedded(vectors, lengths[:, 0], weights)

    def close(self) -> None:
        """Frees threads and memory."""
        self._pool.shutdown()
        self.engine.close()

    def _weights(self, given: NDArray[np.float32], count: int) -> NDArray[np.float32]:
        """Checks the weights; with mirrored crops, a crop has the mean of its two."""
        turns = 2 if self.card.output.flip_sum else 1
        if given.size != turns * count:
            raise EngineError(
                f"output.weight: {self.card.reference} must give one number for each crop, not "
                f"{given.size / (turns * count):g}."
            )
        weights: NDArray[np.float32] = given.reshape(turns, count).mean(axis=0)
        # Values that are not numbers fail this too.
        if not ((weights >= 0) & (weights <= 1)).all():
            raise EngineError(
                f"output.weight: {self.card.reference} gave one that is not between 0 and 1."
            )
        return np.maximum(weights, np.float32(_MIN_WEIGHT))


def prepare_crops(crops: Crops, spec: CropInput) -> NDArray[np.float32]:
    """Turns crops into a network's input, as the card says.

    Args:
        crops: N x height x width x 3, RGB, 0-255.
        spec: colour order, range, mean and std.

    Returns:
        N x 3 x height x width float32, contiguous.
    """
    ordered = crops if spec.channel_order == "RGB" else crops[..., ::-1]
    batch = ordered.transpose(0, 3, 1, 2).astype(np.float32, order="C")
    if spec.per_image_whitening:
        mean = batch.mean(axis=(1, 2, 3), keepdims=True)
        floor = np.float32(1.0 / np.sqrt(batch[0].size))
        std = np.maximum(batch.std(axis=(1, 2, 3), keepdims=True), floor)
        whitened: NDArray[np.float32] = (batch - mean) / std
        return whitened
    if spec.pixel_range == 1:
        batch /= 255.0
    if any(spec.mean):
        batch -= np.asarray(spec.mean, np.float32).reshape(1, 3, 1, 1)
    if any(value != 1.0 for value in spec.std):
        batch /= np.asarray(spec.std, np.float32).reshape(1, 3, 1, 1)
    return batch


def load_embedder(
    zoo: Zoo,
    reference: str,
    preference: str = "auto",
    options: EngineOptions | None = None,
    precision: PrecisionChoice = "fp32",
) -> Embedder:
    """Loads a model by name, through the parity gate.

    Args:
        zoo: holds the model.
        reference: name or name@version.
        preference: an engine's name, or "auto".
        options: threads and streams.
        precision: "auto" for the fastest that passes the gate.

    Raises:
        UnknownModelError: no such embedder.
        WeightsMissingError: its weights have not been pulled.
        EngineError: no engine can run it, or it does not fit its card.
    """
    card = zoo.embedder(reference)
    engine = load_engine(
        zoo.weights(card),
        preference,
        options or EngineOptions(),
        precision=precision,
        gate=Gate(value_range(card.input), zoo.engines),
    )
    return _checked(card, engine)


def value_range(spec: CropInput) -> tuple[float, float]:
    """What pixel values 0 and 255 become at the network's input, at the least and the most."""
    if spec.per_image_whitening:
        return -3.0, 3.0  # standard deviations; few pixels lie beyond
    ends = [
        (value - mean) / std
        for mean, std in zip(spec.mean, spec.std, strict=True)
        for value in (0.0, float(spec.pixel_range))
    ]
    return min(ends), max(ends)


def load_configured(zoo: Zoo, reference: str, engine: EngineSettings) -> Embedder:
    """Loads a model as the settings say: here, or on a Triton server.

    Raises:
        UnknownModelError: no such embedder.
        WeightsMissingError: its weights have not been pulled.
        EngineError: no engine can run it, or it does not fit its card.
    """
    if engine.preference == "triton":
        return load_remote_embedder(zoo, reference, engine.triton_address)
    options = EngineOptions(threads=engine.threads)
    return load_embedder(zoo, reference, engine.preference, options, engine.precision)


def load_remote_embedder(zoo: Zoo, reference: str, address: str) -> Embedder:
    """Takes a model that a Triton server runs, as `mien export triton` wrote it.

    Args:
        zoo: holds the card; the weights need not be here.
        reference: name or name@version.
        address: "host:port" of the server's gRPC interface.

    Raises:
        UnknownModelError: no such embedder.
        EngineError: the server does not answer, or its model does not fit the card.
    """
    card = zoo.embedder(reference)
    name, version = triton_identity(card)
    return _checked(card, TritonEngine(RemoteModel(address, name, str(version))))


def probe_embedder(card: EmbedderCard, weights: Path) -> None:
    """Runs a model once, to see whether it does what its card says.

    Raises:
        ZooError: no engine can load it, it does not take the card's crop, or its vector has another
            dimension or values that are not finite.
    """
    try:
        embedder = _checked(card, load_engine(weights, "auto", EngineOptions(threads=1)))
    except EngineError as error:
        raise ZooError(str(error)) from error
    embedder.close()


def _checked(card: EmbedderCard, engine: Engine) -> Embedder:
    """An embedder that has been run once."""
    embedder = Embedder(card, engine)
    spec = card.input
    noise = np.random.default_rng(0).integers(0, 256, (2, spec.height, spec.width, 3), np.uint8)
    try:
        vectors = embedder.embed(noise)  # also warms the engine up
    except EngineError as error:
        raise EngineError(
            f"{card.reference} cannot run on RGB crops of {spec.width} x {spec.height}: {error}"
        ) from error
    if vectors.shape[1] != card.output.dimension:
        raise EngineError(
            f"output.dimension: the card of {card.reference} says {card.output.dimension}, "
            f"the network gives {vectors.shape[1]}."
        )
    return embedder
