"""Model cards: what a weights file is, how to feed it, and how far its answers can be trusted."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, TypeAdapter, model_validator

from models.zoo.card_base import CardBase, ModelThreshold, Sha256, Strict, Weights
from models.zoo.enhancer_card import EnhancerCard
from models.zoo.map_card import MapCard


def _three(value: Any) -> Any:
    """Repeats a single number for the three channels."""
    return (value, value, value) if isinstance(value, int | float) else value


PerChannel = Annotated[tuple[float, float, float], BeforeValidator(_three)]


class CropInput(Strict):
    """The aligned face crop that an embedder takes, as N x 3 x height x width float32.

    Pixel values are scaled to 0..pixel_range, then ``(value - mean) / std`` per channel, in the
    order that ``channel_order`` names. With ``per_image_whitening`` mean and std of each crop are
    used instead (FaceNet's "prewhiten": std is at least ``1 / sqrt(number of values)``).
    """

    width: int = Field(default=112, ge=16, le=1024)
    height: int = Field(default=112, ge=16, le=1024)
    channel_order: Literal["RGB", "BGR"] = "RGB"
    pixel_range: Literal[255, 1] = 255
    mean: PerChannel = (0.0, 0.0, 0.0)
    std: PerChannel = (1.0, 1.0, 1.0)
    per_image_whitening: bool = False
    template: Literal["arcface", "dlib"] = Field(
        default="arcface",
        description="five-point template, scaled to the crop's size from 112x112 (ArcFace's) or "
        "150x150 (dlib's)",
    )
    template_scale: float = Field(
        default=1.0, gt=0.3, lt=3.0, description="enlarges the face about the template's centre"
    )

    @model_validator(mode="after")
    def _std_divides(self) -> CropInput:
        if any(value <= 0 for value in self.std):
            raise ValueError("std: each channel's value must be above 0")
        return self


class EmbeddingOutput(Strict):
    """The vector that an embedder gives."""

    dimension: int = Field(ge=8, le=4096)
    normalise: bool = Field(default=True, description="scale the vector to unit length")
    metric: Literal["cosine", "euclidean"] = Field(
        default="cosine",
        description="similarity of two vectors: their cosine, or their negative distance",
    )
    name: str | None = Field(default=None, description="output tensor, if the graph has several")
    flip_sum: bool = Field(
        default=False,
        description="add the vector of the mirrored crop: a little better, twice the work",
    )
    weight: str | None = Field(
        default=None,
        description="output tensor with each crop's learned fusion weight, N x 1, 0 to 1",
    )

    @model_validator(mode="after")
    def _outputs_differ(self) -> EmbeddingOutput:
        if self.weight is not None and self.weight == self.name:
            raise ValueError("weight: it must be another output than the vector's")
        return self


class DecoderWeights(Strict):
    """The decoder's file; it lies beside the card."""

    file: str = Field(default="decoder.onnx", pattern=r"^\w[\w.-]*$")
    sha256: Sha256
    size_bytes: int = Field(gt=0)


class DecoderTensors(Strict):
    """What a decoder calls its inputs and its output."""

    embedding: str = "embedding"
    pose: str = "pose"
    noise: str = "noise"
    image: str = "image"


class Decoder(Strict):
    """The network that draws a face from an embedder's vector, in a pose that is asked for.

    It takes the vector as the embedder's network gives it (N x dimension, not normalised), the pose
    as one-hot over ``yaw_bins`` (N x bins) and noise (N x ``noise``, -1 to 1), and gives RGB
    pictures of the embedder's crop size (N x 3 x height x width, -1 to 1).
    """

    weights: DecoderWeights
    tensors: DecoderTensors = DecoderTensors()
    yaw_bins: tuple[float, ...] = Field(
        min_length=1, description="degrees at the middle of each bin, ascending, 0 among them"
    )
    noise: int = Field(ge=1, le=4096, description="width of the noise input")

    @model_validator(mode="after")
    def _bins_ascend(self) -> Decoder:
        bins = self.yaw_bins
        if any(low >= high for low, high in pairwise(bins)):
            raise ValueError("yaw_bins: they must ascend")
        if 0.0 not in bins:
            raise ValueError("yaw_bins: 0, the frontal view, must be among them")
        if min(bins) < -180 or max(bins) > 180:
            raise ValueError("yaw_bins: they are degrees, -180 to 180")
        return self


class EmbedderCard(CardBase):
    """Card of a network that turns an aligned face crop into a vector."""

    kind: Literal["embedder"] = "embedder"
    input: CropInput = CropInput()
    output: EmbeddingOutput
    decoder: Decoder | None = None
    thresholds: tuple[ModelThreshold, ...] = ()

    @model_validator(mode="after")
    def _files_differ(self) -> EmbedderCard:
        if self.decoder is not None and self.decoder.weights.file == self.weights.file:
            raise ValueError("decoder.weights.file: it must be another file than the embedder's")
        return self

    @property
    def preprocessing_sha256(self) -> str:
        """Hash of all that is done to a picture's face before and after the network.

        The decoder is no part of it: what it draws is never compared.
        """
        described: dict[str, Any] = {
            "input": self.input.model_dump(mode="json"),
            "output": self.output.name,
            "normalise": self.output.normalise,
        }
        # Cards from before these options keep their hash.
        if self.output.flip_sum:
            described["flip_sum"] = True
        if self.output.weight is not None:
            described["weight"] = self.output.weight
        canonical = json.dumps(described, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    def threshold(self, fmr: float) -> ModelThreshold | None:
        """The threshold fitted for a target FMR, or None."""
        for candidate in self.thresholds:
            if math.isclose(candidate.fmr, fmr, rel_tol=1e-6):
                return candidate
        return None


class DetectorCard(CardBase):
    """Card of a network that finds faces and their five points in a picture."""

    kind: Literal["detector"] = "detector"
    channel_order: Literal["RGB", "BGR"] = "BGR"
    strides: tuple[int, ...] = (8, 16, 32)


AnyCard = EmbedderCard | DetectorCard | EnhancerCard | MapCard
_ADAPTER: TypeAdapter[AnyCard] = TypeAdapter(Annotated[AnyCard, Field(discriminator="kind")])


def parse_card(text: str | bytes) -> AnyCard:
    """Reads a card from JSON.

    Raises:
        pydantic.ValidationError: names each field at fault.
    """
    return _ADAPTER.validate_json(text)


def read_card(path: Path) -> AnyCard:
    """Reads the card file at ``path``.

    Raises:
        OSError: the file cannot be read.
        pydantic.ValidationError: names each field at fault.
    """
    return parse_card(path.read_bytes())


def write_card(path: Path, card: AnyCard) -> None:
    """Writes a card as indented JSON, replacing the file in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".json.part")
    draft.write_text(card.model_dump_json(indent=2) + "\n", encoding="utf-8")
    draft.replace(path)


def complete_card(
    fields: dict[str, Any], weights: Weights, defaults: dict[str, Any] | None = None
) -> EmbedderCard:
    """Makes an embedder's card from what its owner wrote and what was read off the file.

    Args:
        fields: the owner's card as JSON object; ``weights`` in it is replaced.
        weights: name, hash and size of the weights file.
        defaults: values for fields that the owner left out.

    Raises:
        pydantic.ValidationError: names each field at fault.
    """
    return EmbedderCard.model_validate(_completed(fields, weights, defaults))


def complete_map_card(
    fields: dict[str, Any], weights: Weights, defaults: dict[str, Any] | None = None
) -> MapCard:
    """Makes a map's card likewise."""
    return MapCard.model_validate(_completed(fields, weights, defaults))


def _completed(
    fields: dict[str, Any], weights: Weights, defaults: dict[str, Any] | None
) -> dict[str, Any]:
    return {**(defaults or {}), **fields, "weights": weights.model_dump()}


def latest(versions: Sequence[str]) -> str:
    """The newest of several versions: numbers by value, anything else by text."""

    def key(version: str) -> list[tuple[int, int, str]]:
        parts = version.replace("-", ".").split(".")
        return [(1, int(part), "") if part.isdigit() else (0, 0, part) for part in parts]

    return max(versions, key=key)
