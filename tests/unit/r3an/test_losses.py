import pytest
import torch

from models.r3an.losses import adversarial_loss, contrast_loss, discriminator_loss, distance


def test_descending_the_adversarial_loss_makes_faces_look_real() -> None:
    logits = torch.tensor([[-2.0], [0.0], [1.0]], requires_grad=True)
    torch.autograd.backward(adversarial_loss(logits))
    assert logits.grad is not None
    moved = (logits - logits.grad).detach()
    assert bool((torch.sigmoid(moved) > torch.sigmoid(logits.detach())).all())
    assert float(logits.grad[0].abs()) > float(logits.grad[2].abs())  # does not saturate


def test_the_discriminator_is_pulled_the_other_way() -> None:
    real = torch.zeros(2, 1, requires_grad=True)
    made = torch.zeros(2, 1, requires_grad=True)
    torch.autograd.backward(discriminator_loss(real, made))
    assert real.grad is not None
    assert made.grad is not None
    assert bool((real.grad < 0).all())
    assert bool((made.grad > 0).all())


@pytest.mark.parametrize(("kind", "wanted"), [("l2", 2.0), ("mse", 4.0)])
def test_a_difference_of_two_everywhere_is_two_or_its_square(kind: str, wanted: float) -> None:
    given = torch.full((5, 3, 4, 4), 2.0)
    assert distance(given, torch.zeros_like(given), kind).item() == pytest.approx(wanted)  # type: ignore[arg-type]


def test_the_printed_norm_has_a_gradient_where_nothing_is_wrong() -> None:
    given = torch.ones(2, 8, requires_grad=True)
    torch.autograd.backward(distance(given, torch.ones(2, 8), "l2"))
    assert given.grad is not None
    assert bool(torch.isfinite(given.grad).all())


def test_another_face_of_the_same_person_is_no_rival() -> None:
    own = torch.eye(2, 4)
    others = torch.tensor([[1.0, 0, 0, 0], [0, 0, 1.0, 0]])
    nobody = torch.zeros(2, 2, dtype=torch.bool)
    first = nobody.clone()
    first[0, 0] = True
    rival = contrast_loss(own, own, others, nobody, 0.1)
    spared = contrast_loss(own, own, others, first, 0.1)
    assert float(spared) < 0.01
    assert float(rival) > 0.3
