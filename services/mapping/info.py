"""What callers are told of a map, and the identity of what it gives."""

from __future__ import annotations

from models.zoo import MapCard
from models.zoo.map_card import MapEnd
from services.mapping.mapper import Mapper
from services.rpc.mien.v1 import mapping_pb2, model_pb2
from services.rpc.thresholds import threshold_message

_COMPARISONS = {
    "map|T": mapping_pb2.COMPARISON_MAPPED_TO_NATIVE,
    "T|map": mapping_pb2.COMPARISON_NATIVE_TO_MAPPED,
    "map|map": mapping_pb2.COMPARISON_MAPPED_TO_MAPPED,
}


def source_identity(card: MapCard) -> model_pb2.ModelIdentity:
    """The identity that vectors must have to be mapped."""
    return _identity(card.source, model_pb2.VECTOR_ORIGIN_NATIVE)


def mapped_identity(card: MapCard) -> model_pb2.ModelIdentity:
    """The identity of mapped vectors."""
    identity = _identity(card.target, model_pb2.VECTOR_ORIGIN_MAPPED)
    identity.map = card.reference
    return identity


def describe(mapper: Mapper) -> mapping_pb2.MapInfo:
    """All that a caller must know to use a map."""
    card, engine = mapper.card, mapper.engine.info
    return mapping_pb2.MapInfo(
        name=card.name,
        version=card.version,
        weights_sha256=card.weights.sha256,
        source=source_identity(card),
        source_dimension=card.source.dimension,
        target=mapped_identity(card),
        target_dimension=card.target.dimension,
        thresholds=[
            mapping_pb2.MapThreshold(
                comparison=_COMPARISONS[one.comparison],
                threshold=threshold_message(one),
            )
            for one in sorted(
                card.thresholds, key=lambda one: (_COMPARISONS[one.comparison], -one.fmr)
            )
        ],
        confidence_gap=None if card.confidence is None else card.confidence.gap,
        licence=card.licence,
        engine=engine.engine,
        device=engine.device,
        precision=engine.precision,
    )


def _identity(end: MapEnd, origin: model_pb2.VectorOrigin.ValueType) -> model_pb2.ModelIdentity:
    return model_pb2.ModelIdentity(
        name=end.name,
        version=end.version,
        weights_sha256=end.weights_sha256,
        preprocessing_sha256=end.preprocessing_sha256,
        origin=origin,
    )
