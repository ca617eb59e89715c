import math

import pytest

pytest.importorskip("torch", reason="training needs torch: pip install mien[train]")

import torch
from torch import Tensor, nn

from models.ddat import losses
from models.ddat.losses import Gan, Reading

SURE = 20.0


def logits(value: float, count: int = 2) -> Tensor:
    return torch.full((count, 1, 12, 12), value)


def test_an_undecided_discriminator_loses_the_logarithm_of_two_on_each_side() -> None:
    parts = losses.discriminator_loss(logits(0), logits(0), logits(0), "bce")
    assert parts["d_real"].item() == pytest.approx(math.log(2))
    assert parts["d_source"].item() == pytest.approx(0.5 * math.log(2))
    assert parts["d_target"].item() == pytest.approx(0.5 * math.log(2))
    alone = losses.discriminator_loss(logits(0), logits(0), None, "bce")
    assert alone["d_source"].item() == pytest.approx(math.log(2))
    assert "d_target" not in alone


@pytest.mark.parametrize(("kind", "real", "fake"), [("bce", SURE, -SURE), ("lsq", 1.0, 0.0)])
def test_a_right_discriminator_loses_nothing_and_its_generator_much(
    kind: Gan, real: float, fake: float
) -> None:
    parts = losses.discriminator_loss(logits(real), logits(fake), logits(fake), kind)
    assert sum(part.item() for part in parts.values()) < 1e-6
    assert losses.gan_loss(logits(fake), kind, 1.0).item() > 0.9
    smoothed = losses.discriminator_loss(logits(real), logits(fake), None, kind, smooth=0.1)
    assert smoothed["d_real"].item() > parts["d_real"].item() + 1e-3
    assert smoothed["d_source"].item() == pytest.approx(2 * parts["d_source"].item(), abs=1e-9)


def test_the_penalty_is_half_the_squared_slope_of_the_judge() -> None:
    images = torch.rand(3, 3, 4, 4, requires_grad=True)
    penalty = losses.gradient_penalty((2.0 * images).sum(dim=(1, 2, 3)), images)
    assert penalty.item() == pytest.approx(0.5 * 4 * 48)


def test_both_readings_of_the_adaptor_are_as_the_spec_writes_them() -> None:
    source, target = torch.tensor([[0.3], [1.0]]), torch.tensor([[-0.2], [0.4]])
    bce = losses.adaptor_loss(source, target, "bce", 0.7, 0.4)
    by_hand = -0.7 * torch.sigmoid(source).log().mean()
    by_hand -= 0.4 * (1 - torch.sigmoid(target)).log().mean()
    torch.testing.assert_close(bce, by_hand)
    lsq = losses.adaptor_loss(source, target, "lsq", 1.0, 0.0)
    torch.testing.assert_close(lsq, (source - 1).square().mean() + target.square().mean())


@pytest.mark.parametrize(("reading", "labels"), [("bce", (1.0, 1.0)), ("lsq", (1.0, 0.0))])
def test_an_encoder_wins_where_the_adaptor_is_wrong(
    reading: Reading, labels: tuple[float, float]
) -> None:
    source, target = torch.full((2, 1), SURE if reading == "bce" else 1.0), torch.zeros(2, 1)
    target = -source if reading == "bce" else target
    assert losses.adaptor_loss(source, target, reading, *labels).item() < 1e-6
    assert losses.confusion_loss(target, source, reading, *labels).item() < 1e-6
    assert losses.confusion_loss(source, target, reading, *labels).item() > 1


def test_identity_asks_for_the_direction_and_leaves_what_is_wanted_alone() -> None:
    wanted = torch.randn(4, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
    made = (3 * wanted.detach()).requires_grad_()
    assert losses.identity_loss(made, wanted).item() == pytest.approx(0, abs=1e-6)
    assert losses.identity_loss(-made, wanted).item() == pytest.approx(2, abs=1e-6)
    torch.autograd.backward(losses.identity_loss(made + 1, wanted))
    assert wanted.grad is None
    assert made.grad is not None


def test_maps_are_compared_in_units_of_their_size_and_only_one_side_learns() -> None:
    made = [torch.zeros(2, 3, 4, 4, requires_grad=True), torch.full((2, 5, 2, 2), 30.0)]
    good = [torch.ones(2, 3, 4, 4, requires_grad=True), torch.full((2, 5, 2, 2), 20.0)]
    lost = losses.feature_loss(made, good)
    assert lost.item() == pytest.approx((1.0 + 0.5) / 2)
    assert losses.feature_loss([m * 100 for m in made], [g * 100 for g in good]).item() == (
        pytest.approx(lost.item())
    )
    torch.autograd.backward(lost)
    assert made[0].grad is not None
    assert good[0].grad is None


def test_faces_without_a_class_say_nothing_of_classes() -> None:
    scores = torch.tensor([[4.0, 0.0], [0.0, 4.0], [9.0, 0.0]], requires_grad=True)
    labels = torch.tensor([0, 1, -1])
    one = losses.classification_loss(scores, labels)
    torch.testing.assert_close(one, nn.functional.cross_entropy(scores[:2], labels[:2]))
    nothing = losses.classification_loss(scores, torch.full((3,), -1))
    torch.autograd.backward(nothing)
    assert nothing.item() == 0
    centres = torch.eye(2)
    features = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    assert losses.centre_loss(features, centres, labels).item() == pytest.approx(0.5)
    assert losses.centre_loss(features, centres, torch.full((3,), -1)).item() == 0


def test_centres_move_towards_their_faces_by_the_papers_rule() -> None:
    centres = torch.tensor([[0.0, 0.0], [5.0, 5.0]])
    features = torch.tensor([[1.0, 0.0], [3.0, 0.0], [9.0, 9.0]])
    moved = losses.moved_centres(centres, features, torch.tensor([0, 0, -1]), 0.5)
    # 0.5 x ((0-1) + (0-3)) / (1 + 2) in x.
    torch.testing.assert_close(moved, torch.tensor([[2.0 / 3, 0.0], [5.0, 5.0]]))


def test_divergence_is_zero_for_equal_answers_and_blind_to_a_shift() -> None:
    answer = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    assert losses.divergence(answer, answer + 3).item() == pytest.approx(0, abs=1e-6)
    assert losses.divergence(answer, -answer).item() > 0.5


def test_vat_finds_the_one_direction_that_matters() -> None:
    torch.manual_seed(0)
    weight = torch.zeros(2, 3 * 8 * 8)
    weight[1, 5] = 30.0  # one number of the picture decides
    asked: list[Tensor] = []

    def classify(images: Tensor) -> Tensor:
        asked.append(images)
        return images.flatten(1) @ weight.T

    images = torch.zeros(4, 3, 8, 8)
    lost = losses.vat_loss(classify, images, epsilon=0.5)
    change = (asked[-1] - images).flatten(1)
    torch.testing.assert_close(change.norm(dim=1), torch.full((4,), 0.5))
    torch.testing.assert_close(change[:, 5].abs(), torch.full((4,), 0.5), atol=1e-3, rtol=0)
    # A random change of the same length does next to nothing.
    noise = nn.functional.normalize(torch.randn(4, 192)).view(4, 3, 8, 8) * 0.5
    random = losses.divergence(classify(images), classify(images + noise))
    assert lost.item() > 10 * random.item()


def test_vat_teaches_the_classifier_and_not_the_generator() -> None:
    torch.manual_seed(0)
    network = nn.Linear(12, 3)
    images = torch.rand(2, 3, 2, 2, requires_grad=True)
    torch.autograd.backward(losses.vat_loss(lambda x: network(x.flatten(1)), images))
    assert images.grad is None
    assert network.weight.grad is not None
    assert network.weight.grad.abs().max() > 0


def test_the_constants_are_the_specs() -> None:
    assert pytest.approx(5.8, abs=0.05) == losses.VAT_EPSILON
    assert losses.domain_ramp(0) == 0
    assert losses.domain_ramp(0.5) == pytest.approx(0.9866, abs=1e-4)
    assert losses.domain_ramp(1) > 0.9999
