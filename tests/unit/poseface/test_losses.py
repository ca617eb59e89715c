import math

import pytest

pytest.importorskip("torch", reason="PoseFace trains with torch: pip install mien[train]")

import torch
from torch.nn import functional as F  # noqa: N812

from models.poseface.losses import (
    PoseAdaptiveArcFace,
    batch_correlation,
    keep_loss,
    margin_cosine,
    pose_ratio,
    subspace_overlap,
)

MARGINS = (0.3, 0.45, 0.7)


def euler(*angles: float) -> torch.Tensor:
    return torch.tensor([angles])


def test_the_ratio_reads_degrees_takes_the_larger_angle_and_ignores_roll() -> None:
    assert pose_ratio(euler(10, -30, 80)).item() == pytest.approx(0.5)
    assert pose_ratio(euler(-45, 5, 0)).item() == pytest.approx(0.75)
    assert pose_ratio(euler(0, 75, 0)).item() == 1
    assert pose_ratio(euler(0, 15, 0), full_at=30).item() == pytest.approx(0.5)


def test_an_unknown_pose_gets_the_base_margin() -> None:
    assert pose_ratio(euler(math.nan, math.nan, math.nan)).item() == 0


def test_the_smooth_ramp_meets_the_linear_one_at_its_ends_and_middle() -> None:
    angles = torch.tensor([[0.0, 0, 0], [0, 30, 0], [0, 60, 0]])
    smooth = pose_ratio(angles, ramp="sine")
    assert torch.allclose(smooth, pose_ratio(angles), atol=1e-6)
    assert pose_ratio(euler(0, 15, 0), ramp="sine") < pose_ratio(euler(0, 15, 0))


@pytest.mark.parametrize("margin", MARGINS)
def test_hard_fallback_never_rewards_a_larger_angle(margin: float) -> None:
    theta = torch.linspace(0, math.pi, 20001)
    logit = margin_cosine(theta.cos(), torch.full_like(theta, margin))
    assert (logit.diff() <= 1e-6).all()


@pytest.mark.parametrize(("margin", "step"), [(0.4, 0.08), (0.5, 0.12), (0.7, 0.22)])
def test_hard_fallback_has_the_stated_step_at_the_seam(margin: float, step: float) -> None:
    seam = math.pi - margin
    theta = torch.tensor([seam - 1e-4, seam + 1e-4])
    before, after = margin_cosine(theta.cos(), torch.full((2,), margin)).tolist()
    assert before - after == pytest.approx(step, abs=0.01)


def test_easy_margin_leaves_angles_beyond_ninety_degrees_alone() -> None:
    cos = torch.tensor([0.5, -0.5])
    eased = margin_cosine(cos, torch.full((2,), 0.5), "easy")
    assert eased[0] < cos[0]
    assert eased[1].item() == pytest.approx(-0.5)


@pytest.mark.parametrize("cosine", [1.0, -1.0, 0.0])
def test_gradients_stay_finite_at_the_ends(cosine: float) -> None:
    cos = torch.tensor([cosine], requires_grad=True)
    torch.autograd.backward(margin_cosine(cos, torch.tensor([0.45])).sum())
    assert cos.grad is not None
    assert torch.isfinite(cos.grad).all()


def test_each_sample_has_its_own_margin() -> None:
    torch.manual_seed(0)
    loss = PoseAdaptiveArcFace(5, 8, scale=30, base_margin=0.3, margin_gain=0.2)
    features, labels = torch.randn(2, 8), torch.tensor([1, 3])
    ratio = torch.tensor([0.0, 1.0])
    logits = loss.logits(features, labels, ratio) / 30
    theta = (F.normalize(features) @ F.normalize(loss.weight).T).acos()
    assert logits[0, 1].item() == pytest.approx(math.cos(theta[0, 1].item() + 0.3), abs=1e-5)
    assert logits[1, 3].item() == pytest.approx(math.cos(theta[1, 3].item() + 0.5), abs=1e-5)
    assert logits[0, 0].item() == pytest.approx(math.cos(theta[0, 0].item()), abs=1e-5)


def test_without_gain_pose_changes_nothing() -> None:
    torch.manual_seed(0)
    loss = PoseAdaptiveArcFace(4, 8, margin_gain=0.0)
    features, labels = torch.randn(3, 8), torch.tensor([0, 1, 2])
    assert torch.equal(
        loss(features, labels, torch.zeros(3)), loss(features, labels, torch.ones(3))
    )


def test_logits_are_fp32_inside_autocast() -> None:
    loss = PoseAdaptiveArcFace(4, 8)
    with torch.autocast("cpu", torch.bfloat16):
        logits = loss.logits(torch.randn(2, 8).bfloat16(), torch.tensor([0, 1]), torch.zeros(2))
    assert logits.dtype == torch.float32


def test_nameless_faces_do_not_enter_the_softmax() -> None:
    torch.manual_seed(0)
    loss = PoseAdaptiveArcFace(4, 8)
    features, ratio = torch.randn(3, 8), torch.zeros(3)
    some = loss(features, torch.tensor([2, -1, -1]), ratio)
    assert torch.equal(some, loss(features[:1], torch.tensor([2]), ratio[:1]))
    assert loss(features, torch.tensor([-1, -1, -1]), ratio).item() == 0


def test_margins_beyond_the_limit_are_refused() -> None:
    with pytest.raises(ValueError, match="margins"):
        PoseAdaptiveArcFace(2, 4, base_margin=0.5, margin_gain=0.3)


def test_orthogonality_does_not_fall_by_shrinking_weights() -> None:
    torch.manual_seed(0)
    identity, pose = torch.randn(6, 10), torch.randn(3, 10)
    assert subspace_overlap(identity * 1e-3, pose).item() == pytest.approx(
        subspace_overlap(identity, pose).item(), rel=1e-4
    )
    unit = torch.eye(10)
    assert subspace_overlap(unit[:6], unit[6:9]).item() == 0
    assert subspace_overlap(unit[:6], unit[:3]).item() == pytest.approx(1)


def test_batch_correlation_sees_shared_information() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(4000, 2), torch.randn(4000, 2)
    assert batch_correlation(x, y).item() < 1e-3
    assert batch_correlation(x, x).item() == pytest.approx(0.5, abs=0.01)


def test_keeping_ignores_length_and_weighs_samples() -> None:
    target = torch.eye(3)[:2]
    features = torch.tensor([[5.0, 0, 0], [-1, 0, 0]])
    assert keep_loss(features, target, torch.tensor([1.0, 0.0])).item() == pytest.approx(0)
    assert keep_loss(features, target, torch.tensor([0.0, 2.0])).item() == pytest.approx(1)
    assert keep_loss(features, target, torch.zeros(2)).item() == 0
