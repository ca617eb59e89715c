import math
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs torch: pip install mien[train]")
pytest.importorskip("onnx", reason="training needs onnx: pip install mien[train]")

import torch
from torch import nn

from models.backbones.sface import load_trunk
from models.ddat.network import Discriminator
from models.nir_cyclegan import losses
from models.nir_cyclegan.network import Generator, Served
from models.nir_cyclegan.perception import FaceEyes, Seen, Vgg16, load_vgg16
from models.nir_cyclegan.pool import ImagePool


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(
    ("width", "blocks", "parameters"),
    [(64, 9, 11_378_179), (64, 6, 7_837_699), (32, 6, 1_965_059)],
)
def test_generators_have_the_specs_number_of_parameters(
    width: int, blocks: int, parameters: int
) -> None:
    assert count(Generator(width, blocks)) == parameters


def test_layers_are_the_letters_of_the_paper() -> None:
    network = Generator(64, 9).eval()
    shapes = []
    for layer in network.layers.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            layer.register_forward_hook(lambda _, __, out: shapes.append(tuple(out.shape[1:])))
    with torch.no_grad():
        made = network(torch.rand(1, 3, 64, 64) * 2 - 1)
    blocks = [(256, 16, 16)] * 18
    assert shapes == [
        (64, 64, 64), (128, 32, 32), (256, 16, 16), *blocks, (128, 32, 32), (64, 64, 64),
    ]  # fmt: skip
    assert made.shape == (1, 3, 64, 64)
    assert made.abs().max() < 1  # tanh


@pytest.mark.parametrize(("side", "patches"), [(256, 30), (128, 14), (112, 12)])
def test_discriminators_judge_patches(side: int, patches: int) -> None:
    assert count(Discriminator(64)) == 2_764_737
    assert Discriminator(4)(torch.zeros(1, 3, side, side)).shape == (1, 1, patches, patches)


def test_a_face_comes_out_the_same_in_any_company() -> None:
    network = Generator(4, 1)
    faces = torch.rand(3, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        together, alone = network.train()(faces), network.eval()(faces[:1])
    torch.testing.assert_close(together[:1], alone, atol=1e-5, rtol=0)


def test_a_residual_generator_begins_with_the_face_itself() -> None:
    faces = torch.rand(2, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        torch.testing.assert_close(Generator(4, 1, residual=True)(faces), faces)
        grey = Generator(4, 1, residual=True, grey=True)(faces)
        assert not torch.allclose(Generator(4, 1)(faces), faces, atol=0.1)
    torch.testing.assert_close(grey, faces.mean(dim=1, keepdim=True).expand(-1, 3, -1, -1))


def test_what_is_served_takes_crops_whatever_the_size_of_the_training() -> None:
    network = Served(Generator(4, 1, residual=True), 128, grey=True).eval()
    smooth = nn.functional.interpolate(torch.rand(2, 3, 4, 4) * 2 - 1, 112, mode="bilinear")
    with torch.no_grad():
        made = network(smooth)
    assert made.shape == (2, 3, 112, 112)
    assert torch.equal(made[:, 0], made[:, 1])
    torch.testing.assert_close(made[:, 0], smooth.mean(dim=1), atol=0.05, rtol=0)


def test_the_embedder_gives_four_depths_and_its_own_feature(zoo_poseface: Path) -> None:
    trunk = load_trunk(zoo_poseface)
    eyes = FaceEyes(trunk)
    images = (torch.rand(2, 3, 112, 112) * 2 - 1).requires_grad_()
    seen: Seen = eyes(images)
    assert [tuple(tap.shape[1:]) for tap in seen.taps] == [
        (64, 112, 112), (128, 56, 56), (256, 28, 28), (512, 14, 14),
    ]  # fmt: skip
    with torch.no_grad():
        own = nn.functional.normalize(trunk((images + 1) * 127.5))
    torch.testing.assert_close(seen.feature, own, atol=1e-4, rtol=0)
    torch.autograd.backward(seen.feature.sum())
    assert images.grad is not None
    assert all(p.grad is None for p in eyes.parameters())
    assert eyes(torch.zeros(1, 3, 128, 128)).feature.shape == seen.feature[:1].shape


def test_vgg16_is_tapped_behind_the_rectifiers_and_read_from_a_file(tmp_path: Path) -> None:
    network = Vgg16()
    assert count(network) == 7_635_264
    taps = network(torch.zeros(1, 3, 32, 32))
    assert [tuple(tap.shape[1:]) for tap in taps] == [
        (64, 32, 32), (128, 16, 16), (256, 8, 8), (512, 4, 4),
    ]  # fmt: skip
    assert all((tap >= 0).all() for tap in taps)
    # Black is 0 of 0-255, brought to ImageNet's mean and spread.
    first = network.features[0]
    seen: list[torch.Tensor] = []
    first.register_forward_hook(lambda _, given, __: seen.append(given[0]))
    network(torch.full((1, 3, 16, 16), -1.0))
    assert seen[0][0, 0, 0, 0].item() == pytest.approx(-0.485 / 0.229)

    file = tmp_path / "vgg16.pth"
    parts = {k: v + 0.01 for k, v in network.state_dict().items() if k.startswith("features")}
    torch.save({**parts, "classifier.0.weight": torch.zeros(2, 2)}, file)
    read = load_vgg16(file)
    torch.testing.assert_close(read.features[21].weight, parts["features.21.weight"])
    assert not any(p.requires_grad for p in read.parameters())
    torch.save({"features.0.weight": torch.zeros(2)}, file)
    with pytest.raises(ValueError, match="VGG16"):
        load_vgg16(file)


def test_a_pool_shows_older_pictures_once_it_is_full() -> None:
    pool, rng = ImagePool(4), np.random.default_rng(0)
    given = [torch.full((2, 3, 2, 2), float(k)) for k in range(40)]
    shown = [pool.query(pictures, rng) for pictures in given]
    for pictures, back in zip(given[:2], shown[:2], strict=True):
        assert torch.equal(pictures, back)
    late = torch.stack([s[:, 0, 0, 0] for s in shown[2:]]).flatten()
    now = torch.stack([g[:, 0, 0, 0] for g in given[2:]]).flatten()
    assert 0.3 < (late < now).float().mean() < 0.7
    assert (late <= now).all()
    assert len(pool.kept) == 4
    assert torch.equal(ImagePool(0).query(given[0], rng), given[0])


def test_a_right_discriminator_loses_nothing_and_an_undecided_one_a_quarter() -> None:
    one, nought = torch.ones(2, 1, 12, 12), torch.zeros(2, 1, 12, 12)
    assert losses.discriminator_loss(one, nought).item() == 0
    assert losses.discriminator_loss(one / 2, one / 2).item() == pytest.approx(0.25)
    assert losses.discriminator_loss(nought, one).item() == pytest.approx(1)


def test_cycle_and_brightness_are_by_hand() -> None:
    given = torch.zeros(1, 3, 2, 2)
    back = torch.tensor([0.3, -0.6, 0.0])[None, :, None, None].expand(1, 3, 2, 2)
    assert losses.cycle_loss(back, given).item() == pytest.approx(0.3)
    bright = abs(0.3 * 0.299 - 0.6 * 0.587)
    assert losses.brightness_loss(back, given).item() == pytest.approx(bright)


def test_perception_is_the_mean_over_depths_and_of_maps_of_any_scale() -> None:
    given = [torch.full((1, 2, 4, 4), 2.0), torch.full((1, 4, 2, 2), 20.0)]
    back = [torch.full((1, 2, 4, 4), 3.0), torch.full((1, 4, 2, 2), 30.0)]
    assert losses.perceptual_loss(back, given, "vgg16").item() == pytest.approx(50.5)
    assert losses.perceptual_loss(back, given, "face").item() == pytest.approx(0.25)
    wanted = given[0].clone().requires_grad_()
    mine = back[0].clone().requires_grad_()
    torch.autograd.backward(losses.perceptual_loss([mine], [wanted], "face"))
    assert wanted.grad is None
    assert mine.grad is not None
    assert math.isfinite(float(mine.grad.sum()))


def test_a_share_of_what_is_drawn_lies_between_the_picture_and_the_drawing() -> None:
    torch.manual_seed(0)
    generator = Generator(4, 1)
    picture = torch.rand(1, 3, 112, 112) * 2 - 1
    whole = Served(generator, 112, grey=False)(picture)
    half = Served(generator, 112, grey=False, share=0.5)(picture)
    assert (whole - picture).abs().mean() > 0.05
    torch.testing.assert_close(half, (whole + picture) / 2)
    torch.testing.assert_close(Served(generator, 112, grey=False, share=0.0)(picture), picture)
