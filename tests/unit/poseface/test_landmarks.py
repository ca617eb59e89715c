import pytest

pytest.importorskip("torch", reason="PoseFace trains with torch: pip install mien[train]")

import torch

from models.poseface.landmarks import (
    LandmarkAutoencoder,
    normalise_landmarks,
    pretrain_autoencoder,
)


def size(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_sixty_eight_points_give_the_specified_sizes() -> None:
    model = LandmarkAutoencoder(68)
    assert (size(model.encoder), size(model.decoder)) == (26_049, 26_121)
    assert model.encode(torch.zeros(2, 136)).shape == (2, 64)


def test_five_points_have_a_code_narrower_than_their_ten_numbers() -> None:
    assert LandmarkAutoencoder(5).code == 8
    wide = LandmarkAutoencoder(5, code=64)
    assert (size(wide.encoder), size(wide.decoder)) == (9_921, 9_867)


def test_normalising_takes_out_place_and_size_but_not_shape_or_roll() -> None:
    torch.manual_seed(0)
    points = torch.rand(3, 5, 2) * 100
    plain = normalise_landmarks(points)
    assert torch.allclose(plain, normalise_landmarks(points * 2.5 + 40), atol=1e-5)
    squeezed = points * torch.tensor([0.5, 1.0])
    assert not torch.allclose(plain, normalise_landmarks(squeezed), atol=0.05)
    assert not torch.allclose(plain, normalise_landmarks(points.flip(-1)), atol=0.05)
    assert plain.view(3, 5, 2).square().sum(2).mean(1) == pytest.approx(1.0)


def landmarks(count: int = 2048) -> torch.Tensor:
    torch.manual_seed(0)
    basis = torch.randn(4, 10)
    return torch.randn(count, 4) @ basis * 0.1 + torch.randn(10)


def test_pretraining_rebuilds_landmarks_and_freezes() -> None:
    data = landmarks()
    model, error = pretrain_autoencoder(data, points=5, epochs=60, batch=256)
    assert error < 0.05 * float(data.var(dim=0).mean())
    assert not any(p.requires_grad for p in model.parameters())


def test_the_code_has_unit_variance() -> None:
    data = landmarks()
    model, _ = pretrain_autoencoder(data, points=5, epochs=10, batch=256)
    code = model.encode(data)
    assert torch.allclose(code.mean(0), torch.zeros(8), atol=1e-3)
    assert torch.allclose(code.std(0), torch.ones(8), atol=1e-3)


def test_standardising_the_code_leaves_the_reconstruction_alone() -> None:
    torch.manual_seed(0)
    model, data = LandmarkAutoencoder(5).eval(), landmarks(64)
    before = model(data)
    model.standardise(data)
    assert torch.allclose(before, model(data), atol=1e-4)


def test_a_frozen_autoencoder_does_not_move_when_its_owner_trains() -> None:
    model, _ = pretrain_autoencoder(landmarks(256), points=5, epochs=1, batch=128)
    owner = torch.nn.Sequential(model).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    owner(landmarks(256) * 3)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
