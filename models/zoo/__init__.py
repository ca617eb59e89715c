"""The released models: their cards, where their weights come from, and how to find them."""

from models.zoo.card import (
    Card,
    CropInput,
    Decoder,
    DetectorCard,
    EmbedderCard,
    EmbeddingOutput,
    MapCard,
    ModelThreshold,
    read_card,
    write_card,
)
from models.zoo.fetch import FetchError
from models.zoo.zoo import UnknownModelError, WeightsMissingError, Zoo, ZooError, packaged_zoo

__all__ = [
    "Card",
    "CropInput",
    "Decoder",
    "DetectorCard",
    "EmbedderCard",
    "EmbeddingOutput",
    "FetchError",
    "MapCard",
    "ModelThreshold",
    "UnknownModelError",
    "WeightsMissingError",
    "Zoo",
    "ZooError",
    "packaged_zoo",
    "read_card",
    "write_card",
]
