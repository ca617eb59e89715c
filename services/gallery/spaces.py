"""The space of a registered model, and of one that the embedding service tells of."""

from __future__ import annotations

from models.zoo import EmbedderCard
from services.gallery.values import Metric, Space
from services.rpc.mien.v1 import model_pb2


def space_of_card(card: EmbedderCard) -> Space:
    """The space of a model's own vectors, from its card."""
    return Space(
        card.name,
        card.version,
        card.weights.sha256,
        card.preprocessing_sha256,
        card.output.dimension,
        card.output.metric,
    )


def space_of_model(model: model_pb2.ModelInfo) -> Space:
    """The space of a model's own vectors, from what the embedding service tells."""
    metric: Metric = "euclidean" if model.metric == model_pb2.METRIC_EUCLIDEAN else "cosine"
    identity = model.identity
    return Space(
        identity.name,
        identity.version,
        identity.weights_sha256,
        identity.preprocessing_sha256,
        model.dimension,
        metric,
    )
