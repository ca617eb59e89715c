"""What REST answers look like, and how they are made from the core's answers."""

from __future__ import annotations

import base64
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from services.gateway import core
from services.gateway.enhancement import Enhancement
from services.gateway.faces import Face
from services.gateway.pipeline import PictureFaces, PreparedFace
from services.rpc.mien.v1 import model_pb2

_METRICS: dict[int, Literal["cosine", "euclidean"]] = {
    model_pb2.METRIC_COSINE: "cosine",
    model_pb2.METRIC_EUCLIDEAN: "euclidean",
}
_ORIGINS: dict[int, Literal["native", "mapped"]] = {
    model_pb2.VECTOR_ORIGIN_NATIVE: "native",
    model_pb2.VECTOR_ORIGIN_MAPPED: "mapped",
}


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")


class BoxOut(_Answer):
    """Axis-aligned box in pixels of the upright picture; x to the right, y down."""

    x: float
    y: float
    width: float
    height: float


class PointOut(_Answer):
    """A point in pixels of the upright picture."""

    x: float
    y: float


class PoseOut(_Answer):
    """Head pose in degrees, signs as in ISO/IEC 39794-5."""

    yaw: float = Field(description="positive: looks to their own left, the picture's right")
    pitch: float = Field(description="positive: looks down")
    roll: float = Field(description="positive: leans to their right shoulder, the picture's left")


class QualityOut(_Answer):
    """Quality scores, 0 to 100, higher is better; names as in ISO/IEC 29794-5."""

    unified: float
    components: dict[str, float]


class FaceOut(_Answer):
    """One face, measured."""

    box: BoxOut
    score: float = Field(description="detector score, 0 to 1")
    points: list[PointOut] = Field(
        description="image-left eye, image-right eye, nose tip, image-left mouth corner, "
        "image-right mouth corner"
    )
    pose: PoseOut
    quality: QualityOut
    modality: Literal["visible", "near_infrared_or_grey"]
    inter_eye_distance: float = Field(description="pixels of the picture as sent")


class EnhancementOut(_Answer):
    """What was done to a face before it was embedded."""

    status: Literal["applied", "not_needed", "off", "unavailable"] = Field(
        description="not_needed: nothing has been shown to help such a face for this model; off: "
        "Mien or the caller does without; unavailable: the service did not answer, the face was "
        "compared as it is"
    )
    eyes_px: float = Field(
        description="pixels between the eyes that the picture has, for a frontal face"
    )
    enhancer: str | None = Field(description="name@version; null unless applied")
    enhancer_sha256: str | None = Field(description="of its weights; null unless applied")
    condition: Literal["low_resolution", "near_infrared"] | None = Field(
        description="what was mended; null unless applied"
    )
    image: str | None = Field(
        description="the enhanced face, PNG of 112 x 112 in base64, if asked for with "
        "include=enhanced. Synthetic: no camera has seen these pixels; not to be stored as a "
        "photograph"
    )


class ChosenFaceOut(_Answer):
    """The face that was taken from a picture."""

    face: FaceOut | None = Field(description="null when there was none to take")
    face_count: int = Field(description="how many faces the picture shows")
    face_index: int | None = Field(description="which one was taken; 0 is the largest")
    selection: Literal["largest", "index", "refuse", "central"] = Field(
        description="the rule that chose it"
    )
    enhancement: EnhancementOut | None = Field(description="null when there was no face")


class IdentityOut(_Answer):
    """The model that made the vectors; vectors of different identity are never compared."""

    name: str
    version: str
    weights_sha256: str
    preprocessing_sha256: str
    origin: Literal["native", "mapped"]


class ResultOut(_Answer):
    """The decision for one reference."""

    decision: Literal["same", "different", "inconclusive"]
    reasons: list[str] = Field(
        description="why it is inconclusive: no_face, several_faces, poor_quality or "
        "extreme_pose, each followed by _in_probe or _in_reference"
    )
    similarity: float | None = Field(description="null when there was nothing to compare")
    threshold: float = Field(
        description="a similarity at or above it is a match; with an enhanced face, the one fitted "
        "for such comparisons, if it is stricter"
    )
    reference: ChosenFaceOut


class VerifyOut(ResultOut):
    """Answer to /v1/verify. The first reference's result stands at the top as well."""

    fmr: float | None = Field(
        description="false-match rate that the threshold was set for; null for your own threshold"
    )
    model: IdentityOut
    probe: ChosenFaceOut
    results: list[ResultOut] = Field(description="one for each reference, in their order")
    timing_ms: dict[str, float] = Field(description="milliseconds by stage, and in total")
    request_id: str


class DetectOut(_Answer):
    """Answer to /v1/detect."""

    faces: list[FaceOut] = Field(description="largest box first")
    face_count: int
    width: int = Field(description="of the upright picture, pixels")
    height: int = Field(description="of the upright picture, pixels")
    timing_ms: dict[str, float]
    request_id: str


class ThresholdOut(_Answer):
    """A fitted threshold."""

    fmr: float
    similarity: float
    interval: tuple[float, float] = Field(description="95 % bootstrap interval, by person")


class CropOut(_Answer):
    """The aligned crop that a model takes."""

    width: int
    height: int
    template: str
    template_scale: float


class ModelOut(_Answer):
    """One embedding model that is served."""

    identity: IdentityOut
    is_default: bool
    dimension: int
    metric: Literal["cosine", "euclidean"]
    crop: CropOut
    thresholds: list[ThresholdOut]
    licence: str
    engine: str
    device: str
    precision: str


class ModelsOut(_Answer):
    """Answer to /v1/models."""

    models: list[ModelOut]


class HealthOut(_Answer):
    """Answer to the health checks."""

    status: Literal["live", "ready"]


class ProblemOut(BaseModel):
    """An error (RFC 9457); `docs/errors.md` lists the codes."""

    type: str = Field(examples=["urn:mien:error:image_truncated"])
    title: str = Field(examples=["The picture ends too early"])
    status: int = Field(examples=[422])
    detail: str = Field(examples=["The JPEG file ends before its picture does."])
    instance: str = Field(examples=["/v1/verify"])
    code: str = Field(examples=["image_truncated"])
    request_id: str
    field: str | None = Field(None, examples=["probe"])
    face_count: int | None = None
    subject_id: str | None = None
    retry_after: float | None = None


def verify_out(
    answer: core.Verification, request_id: str, *, show_enhanced: bool = False
) -> VerifyOut:
    """Makes the answer to a verification, with the enhanced faces if they are to be shown."""
    results = [_result(result, show_enhanced) for result in answer.results]
    first = results[0]
    return VerifyOut(
        decision=first.decision,
        reasons=first.reasons,
        similarity=first.similarity,
        reference=first.reference,
        threshold=first.threshold,
        fmr=answer.results[0].point.fmr,
        model=identity_out(answer.identity),
        probe=chosen_out(answer.probe, answer.probe_enhancement, show_enhanced=show_enhanced),
        results=results,
        timing_ms=answer.stopwatch.milliseconds(),
        request_id=request_id,
    )


def detect_out(answer: PictureFaces, request_id: str) -> DetectOut:
    """Makes the answer to a detection."""
    return DetectOut(
        faces=[face_out(face) for face in answer.faces],
        face_count=len(answer.faces),
        width=answer.width,
        height=answer.height,
        timing_ms=answer.stopwatch.milliseconds(),
        request_id=request_id,
    )


def models_out(models: list[model_pb2.ModelInfo]) -> ModelsOut:
    """Makes the list of served models."""
    return ModelsOut(models=[_model(model) for model in models])


def face_out(face: Face) -> FaceOut:
    """Makes one face."""
    x, y, width, height = (round(value, 2) for value in face.detection.box)
    return FaceOut(
        box=BoxOut(x=x, y=y, width=width, height=height),
        score=round(face.detection.score, 4),
        points=[
            PointOut(x=round(float(x), 2), y=round(float(y), 2)) for x, y in face.detection.points
        ],
        pose=PoseOut(
            yaw=round(face.pose.yaw, 1),
            pitch=round(face.pose.pitch, 1),
            roll=round(face.pose.roll, 1),
        ),
        quality=QualityOut(
            unified=round(face.quality.unified, 1),
            components={name: round(v, 1) for name, v in face.quality.components.items()},
        ),
        modality=face.modality.value,
        inter_eye_distance=round(face.inter_eye_distance, 2),
    )


def identity_out(identity: model_pb2.ModelIdentity) -> IdentityOut:
    """Makes a model's identity."""
    return IdentityOut(
        name=identity.name,
        version=identity.version,
        weights_sha256=identity.weights_sha256,
        preprocessing_sha256=identity.preprocessing_sha256,
        origin=_ORIGINS[identity.origin],
    )


def _result(result: core.ReferenceResult, show_enhanced: bool) -> ResultOut:
    value = result.similarity
    return ResultOut(
        decision=result.decision.value,
        reasons=[str(reason) for reason in result.reasons],
        similarity=None if value is None else round(value, 6),
        threshold=round(result.point.threshold, 6),
        reference=chosen_out(result.reference, result.enhancement, show_enhanced=show_enhanced),
    )


def chosen_out(
    prepared: PreparedFace, enhancement: Enhancement | None, *, show_enhanced: bool
) -> ChosenFaceOut:
    """Makes the face that was taken from a picture."""
    return ChosenFaceOut(
        face=None if prepared.face is None else face_out(prepared.face),
        face_count=prepared.face_count,
        face_index=prepared.face_index,
        selection=prepared.choice.selection.value,
        enhancement=None
        if enhancement is None
        else enhancement_out(enhancement, show=show_enhanced),
    )


def enhancement_out(done: Enhancement, *, show: bool) -> EnhancementOut:
    """Makes what was done to a face."""
    picture = done.png() if show else None
    return EnhancementOut(
        status=done.status.value,
        eyes_px=round(done.eyes_px, 1),
        enhancer=done.enhancer or None,
        enhancer_sha256=done.enhancer_sha256 or None,
        condition=done.condition,
        image=None if picture is None else base64.b64encode(picture).decode(),
    )


def _model(model: model_pb2.ModelInfo) -> ModelOut:
    return ModelOut(
        identity=identity_out(model.identity),
        is_default=model.is_default,
        dimension=model.dimension,
        metric=_METRICS[model.metric],
        crop=CropOut(
            width=model.crop.width,
            height=model.crop.height,
            template=model.crop.template,
            template_scale=model.crop.template_scale,
        ),
        thresholds=[
            ThresholdOut(
                fmr=threshold.fmr,
                similarity=round(threshold.similarity, 6),
                interval=(round(threshold.interval_low, 6), round(threshold.interval_high, 6)),
            )
            for threshold in model.thresholds
        ],
        licence=model.licence,
        engine=model.engine,
        device=model.device,
        precision=model.precision,
    )
