import pytest

pytest.importorskip("torch", reason="training needs torch: pip install mien[train]")

import torch
from torch import nn

from models.ddat.network import Adaptor, Discriminator, Generator, Norm, reverse_gradient


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_parameter_counts_are_those_of_the_specs_table() -> None:
    assert parameters(Generator(64)) == 10_892_995
    assert parameters(Generator(32)) == 2_726_755
    assert parameters(Generator(64, "group")) == 10_892_995
    assert parameters(Adaptor(512)) == 426_497
    assert parameters(Discriminator(64)) == 2_764_737


def test_every_layer_has_the_shape_of_the_specs_table() -> None:
    generator = Generator(64).eval()
    found = {}
    for name, layer in generator.named_children():
        layer.register_forward_hook(
            lambda _, __, out, name=name: found.update({name: (out.shape[1], *out.shape[2:])})
        )
    with torch.no_grad():
        made = generator(torch.zeros(1, 3, 112, 112))
    assert found == {
        "e1": (64, 56, 56), "e2": (128, 28, 28), "e3": (256, 14, 14), "e4": (512, 7, 7),
        "b1": (512, 7, 7), "b2": (512, 7, 7),
        "d4": (256, 14, 14), "d3": (128, 28, 28), "d2": (64, 56, 56), "d1": (3, 112, 112),
    }  # fmt: skip
    assert made.image.shape == (1, 3, 112, 112)
    assert made.bottleneck.shape == (1, 512, 7, 7)
    assert Adaptor(512)(made.bottleneck).shape == (1, 1)
    assert Discriminator(8)(made.image).shape == (1, 1, 12, 12)


def test_one_patch_of_the_discriminator_sees_70_pixels() -> None:
    layers = [x for x in Discriminator(8).layers if isinstance(x, nn.Conv2d)]
    field, step = 1, 1
    for layer in layers:
        field += (layer.kernel_size[0] - 1) * step
        step *= layer.stride[0]
    assert field == 70


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_drawn_faces_lie_between_minus_1_and_1(norm: Norm) -> None:
    torch.manual_seed(0)
    for residual in (False, True):
        generator = Generator(8, norm, residual=residual)
        nn.init.normal_(generator.d1.weight, 0, 1)
        made = generator(torch.rand(2, 3, 112, 112) * 2 - 1)
        assert made.image.abs().max() <= 1
        assert made.image.std() > 0.1


def test_a_residual_generator_begins_with_its_input_and_can_leave_it() -> None:
    torch.manual_seed(0)
    generator = Generator(8, residual=True)
    images = torch.rand(2, 3, 112, 112) * 2 - 1
    made = generator(images).image
    assert torch.equal(made, images)
    assert not torch.equal(Generator(8)(images).image, images)
    torch.autograd.backward(made.square().mean())
    assert generator.d1.weight.grad is not None
    assert generator.d1.weight.grad.abs().max() > 0


def test_without_the_first_skip_the_finest_layer_is_reached_through_the_others_only() -> None:
    torch.manual_seed(0)
    whole, cut = Generator(8).eval(), Generator(8, skip_first=False).eval()
    assert whole.d1.weight.shape[0] == 2 * cut.d1.weight.shape[0]
    # With e2 shut, e1 can be seen through the first skip alone.
    image, other = torch.rand(2, 1, 3, 112, 112) * 2 - 1
    for generator, seen in ((whole, True), (cut, False)):
        e2 = generator.e2[0]
        assert isinstance(e2, nn.Conv2d)
        nn.init.zeros_(e2.weight)
        with torch.no_grad():
            differs = not torch.equal(generator(image).image, generator(other).image)
        assert differs == seen


def test_a_reversed_gradient_goes_the_other_way_by_its_factor() -> None:
    x = torch.randn(3, 4, requires_grad=True)
    turned = reverse_gradient(x, 0.25)
    assert torch.equal(turned, x)
    torch.autograd.backward((turned * torch.arange(4.0)).sum())
    assert x.grad is not None
    torch.testing.assert_close(x.grad, -0.25 * torch.arange(4.0).expand(3, 4))


def test_batch_norm_judges_pictures_together_and_the_discriminator_each_by_itself() -> None:
    torch.manual_seed(0)
    images = torch.rand(4, 3, 112, 112) * 2 - 1
    judge = Discriminator(8)
    torch.testing.assert_close(judge(images)[:1], judge(images[:1]), atol=1e-5, rtol=1e-4)
    generator = Generator(8)
    together, alone = generator(images).image[:2], generator(images[:2]).image
    assert not torch.allclose(together, alone, atol=1e-3)
