"""Faces, pictures and decisions as gRPC messages, for all services that speak of them."""

from __future__ import annotations

from services.errors import Errors, MienError
from services.gateway import core
from services.gateway.decision import Cause, Decision, Reason
from services.gateway.enhancement import Enhancement, Status
from services.gateway.faces import Face, FaceChoice, Selection
from services.gateway.pipeline import PreparedFace
from services.modality import Modality
from services.rpc.mien.v1 import face_pb2

_SELECTIONS = {
    face_pb2.FACE_SELECTION_LARGEST: Selection.LARGEST,
    face_pb2.FACE_SELECTION_INDEX: Selection.INDEX,
    face_pb2.FACE_SELECTION_REFUSE: Selection.REFUSE,
    face_pb2.FACE_SELECTION_CENTRAL: Selection.CENTRAL,
}
_SELECTIONS_OUT = {selection: number for number, selection in _SELECTIONS.items()}
DECISIONS = {
    Decision.SAME: face_pb2.DECISION_SAME,
    Decision.DIFFERENT: face_pb2.DECISION_DIFFERENT,
    Decision.INCONCLUSIVE: face_pb2.DECISION_INCONCLUSIVE,
}
REASONS = {
    str(Reason(cause, where)): face_pb2.Reason.Value(f"REASON_{cause.name}_IN_{where.upper()}")
    for cause in Cause
    for where in ("probe", "reference")
}
_STATUSES = {
    status: face_pb2.EnhancementStatus.Value(f"ENHANCEMENT_STATUS_{status.name}")
    for status in Status
}
_MODALITIES = {
    Modality.VISIBLE: face_pb2.MODALITY_VISIBLE,
    Modality.NEAR_INFRARED_OR_GREY: face_pb2.MODALITY_NEAR_INFRARED_OR_GREY,
}


def picture_input(
    image: face_pb2.Image, field: str, *, usual: Selection = Selection.LARGEST
) -> core.PictureInput:
    """A picture and the face that is meant in it.

    Args:
        image: as sent.
        field: the request's field that it came in, for errors.
        usual: the selection where none is named.

    Raises:
        MienError: the selection is not known.
    """
    selection = _SELECTIONS.get(image.selection) if image.selection else usual
    if selection is None:
        raise invalid(f"{field}.selection", "This selection is not known.")
    return core.PictureInput(image.content, FaceChoice(selection, image.face_index))


def invalid(field: str, detail: str) -> MienError:
    """The error of a field that is not valid."""
    return MienError(Errors.INVALID_REQUEST, detail, field=field)


def chosen_message(
    prepared: PreparedFace,
    enhancement: Enhancement | None,
    show_enhanced: bool = False,
    show_aligned: bool = False,
) -> face_pb2.ChosenFace:
    """The face that was taken from a picture; its crops are in it if they are to be shown."""
    return face_pb2.ChosenFace(
        face=None if prepared.face is None else face_message(prepared.face),
        face_count=prepared.face_count,
        face_index=prepared.face_index or 0,
        selection=_SELECTIONS_OUT[prepared.choice.selection],
        enhancement=None
        if enhancement is None
        else enhancement_message(enhancement, show_enhanced),
        aligned=(prepared.png() if show_aligned else None) or b"",
    )


def enhancement_message(done: Enhancement, show: bool = False) -> face_pb2.Enhancement:
    """What was done to a face; ``show`` adds the enhanced picture."""
    return face_pb2.Enhancement(
        status=_STATUSES[done.status],
        eyes_px=done.eyes_px,
        enhancer=done.enhancer,
        enhancer_sha256=done.enhancer_sha256,
        condition=done.condition or "",
        image=(done.png() if show else None) or b"",
    )


def face_message(face: Face) -> face_pb2.Face:
    """A measured face."""
    x, y, width, height = face.detection.box
    return face_pb2.Face(
        box=face_pb2.Box(x=x, y=y, width=width, height=height),
        score=face.detection.score,
        points=[face_pb2.Point(x=float(x), y=float(y)) for x, y in face.detection.points],
        pose=face_pb2.Pose(yaw=face.pose.yaw, pitch=face.pose.pitch, roll=face.pose.roll),
        quality=face_pb2.Quality(unified=face.quality.unified, components=face.quality.components),
        modality=_MODALITIES[face.modality],
        inter_eye_distance=face.inter_eye_distance,
    )
