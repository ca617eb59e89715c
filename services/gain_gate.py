"""Whether a face is enhanced: only where an enhancer's card shows that verification gains by it.

The gateway asks this of every face; the enhancement service asks it where a caller leaves the
choice to it.
"""

from __future__ import annotations

from collections.abc import Sequence

from models.ddat.degradations import EYE_DISTANCE, FULL_SIDE
from services.modality import Modality
from services.rpc.mien.v1 import enhancement_pb2

_ROUNDING = 1e-3  # px; of the sizes that a card states
_LOW, _NIR = enhancement_pb2.CONDITION_LOW_RESOLUTION, enhancement_pb2.CONDITION_NEAR_INFRARED


def eyes_px(native_side: float) -> float:
    """Pixels between the eyes of a frontal face whose crop spans so many pixels of the picture."""
    return EYE_DISTANCE * native_side / FULL_SIDE


def helping(
    enhancers: Sequence[enhancement_pb2.EnhancerInfo],
    embedder: str,
    embedder_sha256: str,
    native_side: float,
    modality: Modality,
) -> enhancement_pb2.EnhancerInfo | None:
    """The enhancer that helps a face, or None for a face that is best left as it is.

    A lack of pixels is mended before a lack of colour.

    Args:
        enhancers: those that are served.
        embedder: model that will compare the face, as name@version; empty for any that was
            measured, of which each must gain.
        embedder_sha256: of that model's weights; empty if it does not matter.
        native_side: pixels of the picture across the face's crop.
        modality: of the face.
    """
    # A face of more pixels than the crop has is cut to them.
    distance = eyes_px(min(native_side, FULL_SIDE))
    wanted = [_LOW] if modality is Modality.VISIBLE else [_LOW, _NIR]
    for condition in wanted:
        for one in enhancers:
            gates = gates_for(one, embedder, embedder_sha256)
            if one.condition == condition and gates and all(_helps(g, distance) for g in gates):
                return one
    return None


def gates_for(
    one: enhancement_pb2.EnhancerInfo, embedder: str, sha256: str
) -> list[enhancement_pb2.Gate]:
    """What was measured of an enhancer for an embedding model; for all if none is named."""
    return [
        gate
        for gate in one.gates
        if not embedder or (gate.embedder == embedder and sha256 in ("", gate.embedder_sha256))
    ]


def _helps(gate: enhancement_pb2.Gate, distance: float) -> bool:
    if distance <= gate.helps_below_eyes_px:
        return True
    return 0 < gate.helps_from_eyes_px <= distance + _ROUNDING
