import math

import pytest

pytest.importorskip("torch", reason="training needs torch: pip install mien[train]")

import torch

from models.drgan import losses
from models.drgan.network import Judgement

LABELS, BINS, YAW = torch.tensor([0, 2]), torch.tensor([1, 0]), torch.tensor([0.0, -30.0])


def softmax_judge(identity: int, pose: int, sure: float = 20.0) -> Judgement:
    """Sure of one class of three people and "fake", and of one of two poses."""
    who, how = torch.zeros(2, 4), torch.zeros(2, 2)
    who[:, identity] = how[:, pose] = sure
    return Judgement(who, how, None)


def test_an_undecided_discriminator_loses_the_logarithm_of_its_choices() -> None:
    even = softmax_judge(0, 0, sure=0.0)
    parts = losses.discriminator_loss(even, even, LABELS, BINS, YAW)
    assert parts["d_identity"].item() == pytest.approx(math.log(4))
    assert parts["d_pose"].item() == pytest.approx(math.log(2))
    assert parts["d_fake"].item() == pytest.approx(math.log(4))


def test_made_faces_are_fake_to_the_discriminator_and_their_source_to_the_generator() -> None:
    fake, source = softmax_judge(3, 0), softmax_judge(0, 0)
    assert losses.fake_loss(fake).item() < 1e-3
    assert losses.fake_loss(source).item() > 10
    same = torch.tensor([0, 0])
    wanted = losses.generator_loss(source, same, torch.tensor([0, 0]), YAW)
    assert sum(value.item() for value in wanted.values()) < 1e-3
    assert losses.generator_loss(fake, same, torch.tensor([0, 0]), YAW)["g_identity"].item() > 10


def test_the_discriminators_pose_is_not_asked_on_made_faces() -> None:
    fake = softmax_judge(3, 0)
    fake.pose.requires_grad_()
    fake.identity.requires_grad_()
    torch.autograd.backward(losses.fake_loss(fake))
    assert fake.pose.grad is None


def test_the_later_variant_has_a_margin_a_real_logit_and_yaw_in_radians() -> None:
    cosines = torch.tensor([[0.9, 0.1, 0.0], [0.0, 0.1, 0.9]])
    yaw = torch.tensor([[0.0], [-math.pi / 6]])
    judged = Judgement(cosines, yaw, torch.full((2, 1), 8.0))

    assert losses.pose_loss(judged, BINS, YAW).item() == pytest.approx(0.0, abs=1e-9)
    logits = losses.AM_SCALE * (cosines - 0.35 * torch.eye(3)[LABELS])
    plain = torch.nn.functional.cross_entropy(logits, LABELS)
    torch.testing.assert_close(losses.identity_loss(judged, LABELS), plain)
    assert losses.real_loss(judged, real=True).item() < 1e-3
    assert losses.fake_loss(judged).item() == pytest.approx(8.0, abs=1e-3)


def test_accuracy_is_the_mean_over_identity_pose_and_made_faces() -> None:
    real = softmax_judge(0, 1)  # first identity right of 2, first pose right of 2
    fake = softmax_judge(3, 0)
    right = losses.discriminator_accuracy(real, fake, LABELS, BINS)
    assert right == pytest.approx((0.5 + 0.5 + 1.0) / 3)


def test_keeping_costs_nothing_in_the_teachers_direction_and_most_against_it() -> None:
    target = torch.randn(4, 8, generator=torch.Generator().manual_seed(0))
    assert losses.keep_loss(3 * target, target).item() == pytest.approx(0.0, abs=1e-6)
    assert losses.keep_loss(-target, target).item() == pytest.approx(1.0, abs=1e-6)
