"""The decision: a similarity, a threshold with its false-match rate, and when to withhold."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from services.errors import Errors, MienError
from services.gateway.faces import Face, Selection
from services.gateway.pipeline import PreparedFace
from services.rpc.mien.v1 import model_pb2
from services.settings import DecisionSettings

Vector = NDArray[np.float32]


class Decision(StrEnum):
    """The answer to "same person?"."""

    SAME = "same"
    DIFFERENT = "different"
    INCONCLUSIVE = "inconclusive"


class Cause(StrEnum):
    """What keeps a picture from being compared; the answer adds in which picture."""

    NO_FACE = "no_face"
    SEVERAL_FACES = "several_faces"
    POOR_QUALITY = "poor_quality"
    EXTREME_POSE = "extreme_pose"


@dataclass(frozen=True)
class Reason:
    """Why a decision is inconclusive.

    Attributes:
        cause: what is wrong.
        where: "probe" or "reference".
    """

    cause: Cause
    where: str

    def __str__(self) -> str:
        return f"{self.cause}_in_{self.where}"


@dataclass(frozen=True)
class OperatingPoint:
    """Where the threshold is, and the false-match rate that it was set for, if it was."""

    threshold: float
    fmr: float | None


def operating_point(
    model: model_pb2.ModelInfo, fmr: float | None, threshold: float | None, default_fmr: float
) -> OperatingPoint:
    """The threshold for a request.

    Args:
        model: the model whose vectors are compared; its card's thresholds are in it.
        fmr: target false-match rate that the caller named, if any.
        threshold: threshold that the caller named, if any.
        default_fmr: target when the caller named neither.

    Raises:
        MienError: the model has no threshold for the target; the detail names those that it has.
    """
    if threshold is not None:
        return OperatingPoint(threshold, None)
    wanted = default_fmr if fmr is None else fmr
    for fitted in model.thresholds:
        if abs(fitted.fmr - wanted) <= 1e-6 * wanted:
            return OperatingPoint(fitted.similarity, fitted.fmr)
    have = ", ".join(f"{fitted.fmr:g}" for fitted in model.thresholds) or "none"
    name = f"{model.identity.name}@{model.identity.version}"
    raise MienError(
        Errors.THRESHOLD_UNKNOWN,
        f"{name} has no threshold for a false-match rate of {wanted:g}. It has: {have}.",
        field="fmr",
    )


def stricter(
    point: OperatingPoint, fitted: Iterable[Sequence[model_pb2.Threshold]]
) -> OperatingPoint:
    """The operating point of a comparison whose faces were enhanced.

    Args:
        point: the model's own.
        fitted: for each enhanced face, the thresholds for comparisons with such faces.

    Returns:
        The strictest of those that were set for the same false-match rate, the model's own among
        them: a face that was merely grey, or has more pixels than those that were fitted on,
        matches others falsely as often as any. A threshold that the caller named stays.
    """
    if point.fmr is None:
        return point
    found = [point.threshold] + [
        one.similarity
        for thresholds in fitted
        for one in thresholds
        if math.isclose(one.fmr, point.fmr, rel_tol=1e-6)
    ]
    return OperatingPoint(max(found), point.fmr)


def similarity(probe: Vector, reference: Vector, metric: model_pb2.Metric.ValueType) -> float:
    """Similarity of two vectors of one identity: cosine, or negative Euclidean distance."""
    if metric == model_pb2.METRIC_EUCLIDEAN:
        return -float(np.linalg.norm(probe - reference))
    norms = float(np.linalg.norm(probe) * np.linalg.norm(reference))
    return float(np.dot(probe, reference)) / max(norms, 1e-12)


def faults(prepared: PreparedFace, where: str, limits: DecisionSettings) -> list[Reason]:
    """Why a picture does not allow a decision; empty when it does.

    Args:
        prepared: the picture's face.
        where: "probe" or "reference".
        limits: least quality and greatest angles.
    """
    if prepared.face is None:
        refused = prepared.choice.selection is Selection.REFUSE and prepared.face_count > 1
        return [Reason(Cause.SEVERAL_FACES if refused else Cause.NO_FACE, where)]
    return [Reason(cause, where) for cause in _weaknesses(prepared.face, limits)]


def decide(value: float | None, point: OperatingPoint, reasons: list[Reason]) -> Decision:
    """The decision for one pair.

    Args:
        value: the similarity, if there was something to compare.
        point: the threshold.
        reasons: what speaks against deciding.
    """
    if reasons or value is None:
        return Decision.INCONCLUSIVE
    return Decision.SAME if value >= point.threshold else Decision.DIFFERENT


def _weaknesses(face: Face, limits: DecisionSettings) -> list[Cause]:
    found = []
    if face.quality.unified < limits.min_quality:
        found.append(Cause.POOR_QUALITY)
    if abs(face.pose.yaw) > limits.max_yaw or abs(face.pose.pitch) > limits.max_pitch:
        found.append(Cause.EXTREME_POSE)
    return found
