"""The two ends of a map as spaces of the gallery, and the other way round."""

from __future__ import annotations

from services.errors import Errors, MienError
from services.gallery import Space
from services.rpc.mien.v1 import mapping_pb2, model_pb2


def source_space(info: mapping_pb2.MapInfo, live: Space) -> Space:
    """The live space, as what a map takes.

    Raises:
        MienError: IDENTITY_MISMATCH; the map takes other vectors.
    """
    wanted = _space(info.source, info.source_dimension)
    # A map takes directions, so it does not matter how the source compares its vectors.
    for name in ("model", "version", "weights_sha256", "preprocessing_sha256", "dimension"):
        if getattr(wanted, name) != getattr(live, name):
            raise MienError(
                Errors.IDENTITY_MISMATCH,
                f"That map takes vectors of {wanted.reference}; the gallery's are of "
                f"{live.reference}"
                + (", but with other weights or preprocessing." if _same(wanted, live) else "."),
                field="map",
            )
    return live


def target_space(info: mapping_pb2.MapInfo) -> Space:
    """The space that a map leads to. Maps give unit vectors, compared by cosine."""
    return _space(info.target, info.target_dimension)


def leads(info: mapping_pb2.MapInfo, source: Space, target: Space) -> bool:
    """Whether a map takes the vectors of one space to another."""
    try:
        return source_space(info, source) == source and target_space(info) == target
    except MienError:
        return False


def native_identity(space: Space) -> model_pb2.ModelIdentity:
    """Whose the native vectors of a space are."""
    return model_pb2.ModelIdentity(
        name=space.model,
        version=space.version,
        weights_sha256=space.weights_sha256,
        preprocessing_sha256=space.preprocessing_sha256,
        origin=model_pb2.VECTOR_ORIGIN_NATIVE,
    )


def _space(identity: model_pb2.ModelIdentity, dimension: int) -> Space:
    return Space(
        identity.name,
        identity.version,
        identity.weights_sha256,
        identity.preprocessing_sha256,
        dimension,
    )


def _same(one: Space, other: Space) -> bool:
    return one.reference == other.reference
