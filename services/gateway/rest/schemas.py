"""What REST answers look like."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


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
    aligned: str | None = Field(
        description="the face as PNG of 112 x 112 in base64, cut out as it was measured and before "
        "any enhancement, if asked for with include=aligned"
    )


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
