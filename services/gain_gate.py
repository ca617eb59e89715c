"""Whether a face is enhanced: only where an enhancer's card shows that verification gains by it.

The gateway asks this of every face; the enhancement service asks it where a caller leaves the
choice to it.
"""

from __future__ import annotations

from collections.abc import Sequence

from models.ddat.degradations import EYE_DISTANCE, FULL_SIDE
from services.modality import Modality
from services.rpc.mien.v1 import enhancement_pb2

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
    distance = eyes_px(native_side)
    wanted = [_LOW] if modality is Modality.VISIBLE else [_LOW, _NIR]
    for condition in wanted:
        for one in enhancers:
            if one.condition == condition and distance <= _limit(one, embedder, embedder_sha256):
                return one
    return None


def _limit(one: enhancement_pb2.EnhancerInfo, embedder: str, sha256: str) -> float:
    """Pixels between the eyes up to which it helps; 0 for never."""
    limits = [
        gate.helps_below_eyes_px
        for gate in one.gates
        if not embedder or (gate.embedder == embedder and sha256 in ("", gate.embedder_sha256))
    ]
    return min(limits, default=0.0)
