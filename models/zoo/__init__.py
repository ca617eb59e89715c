"""The released models: their cards, where their weights come from, and how to find them."""

from models.zoo.adding import kind_of
from models.zoo.card import (
    AnyCard,
    CropInput,
    Decoder,
    DetectorCard,
    EmbedderCard,
    EmbeddingOutput,
    read_card,
    write_card,
)
from models.zoo.card_base import ModelThreshold
from models.zoo.enhancer_card import EnhancerCard
from models.zoo.errors import FetchError, UnknownModelError, WeightsMissingError, ZooError
from models.zoo.map_card import MapCard
from models.zoo.zoo import Zoo, packaged_zoo

__all__ = [
    "AnyCard",
    "CropInput",
    "Decoder",
    "DetectorCard",
    "EmbedderCard",
    "EmbeddingOutput",
    "EnhancerCard",
    "FetchError",
    "MapCard",
    "ModelThreshold",
    "UnknownModelError",
    "WeightsMissingError",
    "Zoo",
    "ZooError",
    "kind_of",
    "packaged_zoo",
    "read_card",
    "write_card",
]
