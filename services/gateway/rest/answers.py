"""Makes REST answers about pictures and models from the core's answers."""

from __future__ import annotations

import base64
from typing import Literal

from services.gateway import core
from services.gateway.enhancement import Enhancement
from services.gateway.faces import Face
from services.gateway.pipeline import PictureFaces, PreparedFace
from services.gateway.rest.schemas import (
    BoxOut,
    ChosenFaceOut,
    CropOut,
    DetectOut,
    EnhancementOut,
    FaceOut,
    IdentityOut,
    ModelOut,
    ModelsOut,
    PointOut,
    PoseOut,
    QualityOut,
    ResultOut,
    ThresholdOut,
    VerifyOut,
)
from services.rpc.mien.v1 import model_pb2

_METRICS: dict[int, Literal["cosine", "euclidean"]] = {
    model_pb2.METRIC_COSINE: "cosine",
    model_pb2.METRIC_EUCLIDEAN: "euclidean",
}
_ORIGINS: dict[int, Literal["native", "mapped"]] = {
    model_pb2.VECTOR_ORIGIN_NATIVE: "native",
    model_pb2.VECTOR_ORIGIN_MAPPED: "mapped",
}


def verify_out(
    answer: core.Verification, request_id: str, command: core.VerifyCommand
) -> VerifyOut:
    """Makes the answer to a verification, with the crops that the command asks for."""
    results = [_result(result, command) for result in answer.results]
    first = results[0]
    return VerifyOut(
        decision=first.decision,
        reasons=first.reasons,
        similarity=first.similarity,
        reference=first.reference,
        threshold=first.threshold,
        fmr=answer.results[0].point.fmr,
        model=identity_out(answer.identity),
        probe=_shown(answer.probe, answer.probe_enhancement, command),
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


def _result(result: core.ReferenceResult, command: core.VerifyCommand) -> ResultOut:
    value = result.similarity
    return ResultOut(
        decision=result.decision.value,
        reasons=[str(reason) for reason in result.reasons],
        similarity=None if value is None else round(value, 6),
        threshold=round(result.point.threshold, 6),
        reference=_shown(result.reference, result.enhancement, command),
    )


def _shown(
    prepared: PreparedFace, enhancement: Enhancement | None, command: core.VerifyCommand
) -> ChosenFaceOut:
    return chosen_out(
        prepared,
        enhancement,
        show_enhanced=command.show_enhanced,
        show_aligned=command.show_aligned,
    )


def chosen_out(
    prepared: PreparedFace,
    enhancement: Enhancement | None,
    *,
    show_enhanced: bool = False,
    show_aligned: bool = False,
) -> ChosenFaceOut:
    """Makes the face that was taken from a picture."""
    picture = prepared.png() if show_aligned else None
    return ChosenFaceOut(
        face=None if prepared.face is None else face_out(prepared.face),
        face_count=prepared.face_count,
        face_index=prepared.face_index,
        selection=prepared.choice.selection.value,
        enhancement=None
        if enhancement is None
        else enhancement_out(enhancement, show=show_enhanced),
        aligned=None if picture is None else base64.b64encode(picture).decode(),
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
