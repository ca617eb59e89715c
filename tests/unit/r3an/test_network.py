import math

import pytest
import torch
from torch import nn

from models.r3an.network import (
    BIG,
    SMALL,
    Discriminator,
    Extractor,
    Generator,
    R3an,
    restate,
    scaled,
)


def size(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("source", "target", "generator", "extractor"),
    [
        (256, 256, 2_758_355, 1_457_888),
        (128, 512, 1_709_779, 1_785_824),
        (512, 128, 4_855_507, 1_293_920),
        (512, 512, 4_855_507, 1_785_824),
        (320, 512, 3_282_643, 1_785_824),
    ],
)
def test_the_networks_have_the_specs_parameters_for_any_dimensions(
    source: int, target: int, generator: int, extractor: int
) -> None:
    assert size(Generator(source)) == generator
    assert size(Extractor(target, SMALL)) == extractor
    assert size(Discriminator()) == 98_945


def test_the_larger_extractor_is_the_specs() -> None:
    assert size(Extractor(256, BIG)) == 2_526_944


def test_faces_have_the_tables_sizes_on_the_way() -> None:
    generator, discriminator, extractor = Generator(24), Discriminator(), Extractor(12)
    x = torch.randn(3, 24)[:, :, None, None]
    ups = []
    for layer in generator.body:
        x = layer(x)
        if isinstance(layer, nn.ConvTranspose2d):
            ups.append(tuple(x.shape[1:]))
    assert ups == [(512, 4, 4), (128, 7, 7), (32, 14, 14), (8, 28, 28)]
    face = generator(torch.randn(3, 24))
    assert face.shape == (3, 3, 56, 56)
    assert float(face.detach().abs().max()) < 1

    x, downs = face, []
    for layer in discriminator.body:
        x = layer(x)
        if isinstance(layer, nn.Conv2d):
            downs.append(tuple(x.shape[1:]))
    assert downs == [(4, 28, 28), (8, 14, 14), (16, 7, 7), (32, 4, 4), (64, 2, 2), (128, 1, 1)]
    assert discriminator(face).shape == (3, 1)
    assert extractor.body(face).shape == (3, 1280, 7, 7)
    assert extractor(face).shape == (3, 12)


def test_a_vectors_length_does_not_matter_to_the_map() -> None:
    torch.manual_seed(0)
    network = R3an(Generator(16), Extractor(8)).eval()
    x = torch.randn(2, 16)
    torch.testing.assert_close(network(x), network(5 * x))
    assert torch.allclose(scaled(x).norm(dim=1), torch.full((2,), math.sqrt(16)))


def test_statistics_of_real_faces_spoil_the_served_map_until_they_are_taken_anew() -> None:
    torch.manual_seed(0)
    generator, extractor = Generator(16), Extractor(8)
    vectors = scaled(torch.randn(64, 16))
    wanted = extractor.train()(generator.train()(vectors)).detach()
    for _ in range(30):
        extractor(torch.rand(16, 3, 56, 56))  # real faces are brighter than the generator's
    before = [parameter.clone() for parameter in extractor.parameters()]

    def error() -> float:
        with torch.no_grad():
            made = extractor.eval()(generator.eval()(vectors))
        return float(nn.functional.mse_loss(made, wanted) / wanted.var())

    assert error() > 0.3
    restate(generator, extractor, vectors, batch=64)
    assert error() < 0.01
    assert all(torch.equal(a, b) for a, b in zip(before, extractor.parameters(), strict=True))
    assert not generator.training
    assert not extractor.training
