import pytest
from pydantic import ValidationError

from models.zoo.enhancer_card import EnhancerCard, EnhancerGate, helps_below, helps_from
from services.gain_gate import eyes_px, helping
from services.modality import Modality
from services.rpc.mien.v1 import enhancement_pb2
from tests.gain_points import point

LOW = enhancement_pb2.CONDITION_LOW_RESOLUTION
NIR = enhancement_pb2.CONDITION_NEAR_INFRARED
GREY = Modality.NEAR_INFRARED_OR_GREY
SHA = "a" * 64


def info(
    name: str, condition: enhancement_pb2.Condition.ValueType = LOW, **limits: float
) -> enhancement_pb2.EnhancerInfo:
    gates = [
        enhancement_pb2.Gate(embedder=f"{model}@1", embedder_sha256=SHA, helps_below_eyes_px=limit)
        for model, limit in limits.items()
    ]
    return enhancement_pb2.EnhancerInfo(name=name, version="1", condition=condition, gates=gates)


def chosen(
    native_side: float, *enhancers: enhancement_pb2.EnhancerInfo, embedder: str = "face@1",
    sha256: str = SHA, modality: Modality = Modality.VISIBLE,
) -> str:  # fmt: skip
    found = helping(enhancers, embedder, sha256, native_side, modality)
    return "" if found is None else found.name


def test_a_face_is_enhanced_up_to_the_measured_size_and_not_beyond() -> None:
    limit = eyes_px(32)
    assert limit == pytest.approx(10.07, abs=0.01)
    assert chosen(32, info("sr", face=limit)) == "sr"
    assert chosen(32.1, info("sr", face=limit)) == ""
    assert chosen(12, info("sr", face=0.0)) == ""
    assert chosen(12, info("sr")) == ""


def test_only_the_model_that_was_measured_counts_and_only_with_those_weights() -> None:
    one = info("sr", face=10.0, other=5.0)
    assert chosen(28, one) == "sr"
    assert chosen(28, one, embedder="other@1") == ""
    assert chosen(14, one, embedder="other@1") == "sr"
    assert chosen(14, one, embedder="third@1") == ""
    assert chosen(14, one, sha256="b" * 64) == ""
    assert chosen(14, one, sha256="") == "sr"


def test_without_a_model_every_measured_one_must_gain() -> None:
    one = info("sr", face=10.0, other=5.0)
    assert chosen(28, one, embedder="") == ""
    assert chosen(14, one, embedder="") == "sr"


def test_grey_faces_may_be_mended_for_light_and_few_pixels_come_first() -> None:
    both = (info("nir", NIR, face=1000.0), info("sr", face=6.0))
    assert chosen(100, *both, modality=GREY) == "nir"
    assert chosen(16, *both, modality=GREY) == "sr"
    assert chosen(100, *both) == ""


def test_a_gain_counts_while_it_is_sure_at_every_smaller_size() -> None:
    rising = tuple(point(side, low) for side, low in ((12, 0.1), (16, 0.05), (20, -0.01)))
    assert helps_below(rising) == pytest.approx(eyes_px(16))
    gap = (*rising, point(24, 0.2))
    assert helps_below(gap) == pytest.approx(eyes_px(16))
    assert helps_below((point(12, -0.01), point(16, 0.1))) == 0


def test_a_gain_in_one_degradation_is_enough_unless_it_is_a_sure_loss_in_another() -> None:
    area = [point(side, 0.1) for side in (12, 16, 20)]
    unsure = [point(side, -0.1, "other") for side in (12, 16, 20)]
    assert helps_below([*area, *unsure]) == pytest.approx(eyes_px(20))
    worse = [point(12, -0.1, "other"), point(16, -0.3, "other"), point(20, 0.1, "other")]
    assert helps_below([*area, *worse]) == pytest.approx(eyes_px(12))
    assert helps_below(unsure) == 0


def test_the_sure_degradation_gains_at_every_false_match_rate() -> None:
    both = [point(12, 0.1), point(12, 0.1, fmr=1e-2), point(16, 0.1), point(16, -0.01, fmr=1e-2)]
    assert helps_below(both) == pytest.approx(eyes_px(12))
    missing = (point(12, 0.1), point(12, 0.1, fmr=1e-2), point(16, 0.1))
    assert helps_below(missing) == pytest.approx(eyes_px(12))


def test_a_card_cannot_claim_more_than_its_points_show() -> None:
    points = (point(12, 0.1), point(16, 0.05), point(20, -0.01))
    about = {
        "embedder": "face@1", "embedder_sha256": SHA, "faces": 20, "people": 5, "data": "made up",
        "command": "none", "hardware": "none", "date": "2026-01-01", "points": points,
    }  # fmt: skip
    gate = EnhancerGate.model_validate({**about, "helps_below_eyes_px": eyes_px(16)})
    assert gate.helps_below_eyes_px == pytest.approx(eyes_px(16))
    with pytest.raises(ValidationError, match="only up to"):
        EnhancerGate.model_validate({**about, "helps_below_eyes_px": eyes_px(20)})


def card_gate(**limits: float) -> dict[str, object]:
    points = (point(28, -0.3), point(56, 0.05), point(112, 0.1))
    return {
        "embedder": "face@1", "embedder_sha256": SHA, "faces": 20, "people": 5, "data": "made up",
        "command": "none", "hardware": "none", "date": "2026-01-01", "points": points, **limits,
    }  # fmt: skip


def test_what_lacks_colour_is_helped_from_a_size_on() -> None:
    rising = (point(28, -0.3), point(56, 0.05), point(112, 0.1))
    assert helps_from(rising) == pytest.approx(eyes_px(56))
    assert helps_from(rising[:1]) is None
    limit = eyes_px(56)
    gates = [enhancement_pb2.Gate(embedder="face@1", embedder_sha256=SHA, helps_from_eyes_px=limit)]
    nir = enhancement_pb2.EnhancerInfo(name="nir", version="1", condition=NIR, gates=gates)
    assert chosen(55, nir, modality=GREY) == ""
    assert chosen(56, nir, modality=GREY) == "nir"
    assert chosen(4000, nir, modality=GREY) == "nir"
    assert chosen(4000, nir) == ""


def test_a_card_claims_the_kind_of_limit_that_its_work_has() -> None:
    gate = EnhancerGate.model_validate(card_gate(helps_from_eyes_px=eyes_px(56)))
    with pytest.raises(ValidationError, match="only from"):
        EnhancerGate.model_validate(card_gate(helps_from_eyes_px=eyes_px(28)))
    with pytest.raises(ValidationError, match="at most one"):
        EnhancerGate.model_validate(card_gate(helps_from_eyes_px=36.0, helps_below_eyes_px=0.0))
    about = {"name": "nir", "version": "1", "weights": {"sha256": SHA, "size_bytes": 1}}
    EnhancerCard.model_validate({**about, "operation": "nir_to_visible", "gates": [gate]})
    with pytest.raises(ValidationError, match="not for super_resolution"):
        EnhancerCard.model_validate({**about, "operation": "super_resolution", "gates": [gate]})
