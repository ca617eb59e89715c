"""The decision: which threshold, which side of it, and when none is made."""

from itertools import product

import numpy as np
import pytest

from services.errors import Errors, MienError
from services.gateway.decision import (
    Cause,
    Decision,
    OperatingPoint,
    Reason,
    decide,
    faults,
    operating_point,
    similarity,
)
from services.gateway.detection import Detection
from services.gateway.faces import Face, FaceChoice, Selection
from services.gateway.pipeline import PreparedFace
from services.gateway.pose import Pose
from services.gateway.quality import Quality
from services.modality import Modality
from services.rpc.mien.v1 import model_pb2
from services.settings import DecisionSettings
from services.telemetry import Stopwatch

COSINE, EUCLIDEAN = model_pb2.METRIC_COSINE, model_pb2.METRIC_EUCLIDEAN
LIMITS = DecisionSettings(default_fmr=1e-3, min_quality=10, max_yaw=70, max_pitch=60)
RATES = {1e-2: 0.2867, 1e-3: 0.3563, 1e-4: 0.4143}


def model(rates: dict[float, float] = RATES) -> model_pb2.ModelInfo:
    return model_pb2.ModelInfo(
        identity=model_pb2.ModelIdentity(name="sface", version="1"),
        thresholds=[model_pb2.Threshold(fmr=f, similarity=s) for f, s in rates.items()],
    )


def prepared(
    quality: float = 80.0,
    pose: Pose = Pose(0.0, 0.0, 0.0),  # noqa: B008 - it cannot be changed
    selection: Selection = Selection.LARGEST,
    count: int = 1,
    found: bool = True,
) -> PreparedFace:
    detection = Detection((0, 0, 10, 10), np.zeros((5, 2), np.float32), 0.9)
    face = Face(detection, pose, Quality(quality, {}), Modality.VISIBLE, 60.0, 190.0)
    return PreparedFace(
        choice=FaceChoice(selection),
        face_count=count,
        face_index=0 if found else None,
        face=face if found else None,
        crop=np.zeros((112, 112, 3), np.uint8) if found else None,
        measured=None,
        stopwatch=Stopwatch(),
    )


def told(face: PreparedFace, where: str = "probe") -> list[str]:
    return [str(reason) for reason in faults(face, where, LIMITS)]


# --- the threshold ---------------------------------------------------------------------------


@pytest.mark.parametrize(("fmr", "threshold"), RATES.items())
def test_a_rate_that_is_named_gives_its_threshold(fmr: float, threshold: float) -> None:
    assert operating_point(model(), fmr, None, 1e-3) == OperatingPoint(threshold, fmr)


def test_without_a_rate_the_default_holds() -> None:
    assert operating_point(model(), None, None, 1e-4) == OperatingPoint(RATES[1e-4], 1e-4)


def test_a_rate_is_found_in_spite_of_rounding() -> None:
    assert operating_point(model(), 0.1 * 0.1, None, 1e-3).fmr == 1e-2


def test_a_threshold_of_the_callers_own_claims_no_rate() -> None:
    assert operating_point(model(), None, 0.5, 1e-3) == OperatingPoint(0.5, None)
    assert operating_point(model({}), 1e-3, 0.0, 1e-3) == OperatingPoint(0.0, None)


@pytest.mark.parametrize("fmr", [1e-5, 2e-3, 0.00101])
def test_an_unknown_rate_is_refused_with_those_that_exist(fmr: float) -> None:
    with pytest.raises(MienError) as caught:
        operating_point(model(), fmr, None, 1e-3)
    assert caught.value.error is Errors.THRESHOLD_UNKNOWN
    assert caught.value.field == "fmr"
    assert f"{fmr:g}" in caught.value.detail
    assert "sface@1" in caught.value.detail
    assert "0.01, 0.001, 0.0001" in caught.value.detail


def test_a_model_without_thresholds_says_so() -> None:
    with pytest.raises(MienError, match="It has: none"):
        operating_point(model({}), None, None, 1e-3)


# --- the similarity --------------------------------------------------------------------------


def vector(*values: float) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.array(values, np.float32)


def test_cosine_is_the_angle_and_not_the_length() -> None:
    assert similarity(vector(3, 0), vector(5, 0), COSINE) == pytest.approx(1)
    assert similarity(vector(1, 0), vector(0, 2), COSINE) == pytest.approx(0)
    assert similarity(vector(1, 0), vector(-4, 0), COSINE) == pytest.approx(-1)
    assert similarity(vector(1, 0), vector(1, 1), COSINE) == pytest.approx(np.sqrt(0.5))


def test_euclidean_is_the_negative_distance() -> None:
    assert similarity(vector(1, 2), vector(1, 2), EUCLIDEAN) == 0
    assert similarity(vector(0, 0), vector(3, 4), EUCLIDEAN) == pytest.approx(-5)
    near, far = vector(0.1, 0), vector(2, 0)
    assert similarity(vector(0, 0), near, EUCLIDEAN) > similarity(vector(0, 0), far, EUCLIDEAN)


@pytest.mark.parametrize("metric", [COSINE, EUCLIDEAN])
def test_the_order_of_two_pictures_does_not_matter(metric: model_pb2.Metric.ValueType) -> None:
    one, other = np.random.default_rng(3).standard_normal((2, 128)).astype(np.float32)
    assert similarity(one, other, metric) == similarity(other, one, metric)


def test_a_vector_of_zeros_is_like_nothing() -> None:
    assert similarity(vector(0, 0), vector(1, 0), COSINE) == 0


# --- the decision ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "threshold", "decision"),
    [
        (0.5, 0.3, Decision.SAME),
        (0.3, 0.3, Decision.SAME),
        (float(np.nextafter(0.3, 0)), 0.3, Decision.DIFFERENT),
        (-0.2, 0.3, Decision.DIFFERENT),
        (-1.1, -1.1, Decision.SAME),
        (-1.2, -1.1, Decision.DIFFERENT),
    ],
)
def test_at_the_threshold_or_above_it_is_the_same_person(
    value: float, threshold: float, decision: Decision
) -> None:
    assert decide(value, OperatingPoint(threshold, 1e-3), []) is decision


@pytest.mark.parametrize("value", [None, 0.9, -0.9])
def test_a_reason_against_withholds_the_decision(value: float | None) -> None:
    reasons = [Reason(Cause.POOR_QUALITY, "probe")]
    assert decide(value, OperatingPoint(0.3, 1e-3), reasons) is Decision.INCONCLUSIVE


def test_nothing_to_compare_is_inconclusive() -> None:
    assert decide(None, OperatingPoint(0.3, 1e-3), []) is Decision.INCONCLUSIVE


# --- the reasons -----------------------------------------------------------------------------


def test_a_good_face_has_no_fault() -> None:
    assert told(prepared()) == []


@pytest.mark.parametrize("selection", [*Selection])
def test_no_face(selection: Selection) -> None:
    missing = prepared(selection=selection, count=0, found=False)
    assert told(missing, "reference") == ["no_face_in_reference"]


def test_several_faces_only_where_they_are_refused() -> None:
    assert told(prepared(selection=Selection.REFUSE, count=2, found=False)) == [
        "several_faces_in_probe"
    ]
    assert told(prepared(selection=Selection.LARGEST, count=2)) == []


@pytest.mark.parametrize(
    ("quality", "faults_told"),
    [(9.99, ["poor_quality_in_probe"]), (10.0, []), (0.0, ["poor_quality_in_probe"])],
)
def test_poor_quality(quality: float, faults_told: list[str]) -> None:
    assert told(prepared(quality=quality)) == faults_told


@pytest.mark.parametrize(
    ("yaw", "pitch", "extreme"),
    [
        *((sign * 71, 0, True) for sign in (1, -1)),
        *((0, sign * 61, True) for sign in (1, -1)),
        *((one * 70, other * 60, False) for one, other in product((1, -1), repeat=2)),
    ],
)
def test_extreme_pose_to_any_side(yaw: float, pitch: float, extreme: bool) -> None:
    expected = ["extreme_pose_in_probe"] if extreme else []
    assert told(prepared(pose=Pose(yaw, pitch, 0))) == expected


def test_a_head_on_its_side_can_be_compared() -> None:
    assert told(prepared(pose=Pose(0, 0, 170))) == []


def test_reasons_come_in_a_fixed_order() -> None:
    assert told(prepared(quality=1, pose=Pose(80, 0, 0))) == [
        "poor_quality_in_probe",
        "extreme_pose_in_probe",
    ]
