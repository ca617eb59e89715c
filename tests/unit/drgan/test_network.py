from pathlib import Path

import pytest

pytest.importorskip("torch", reason="training needs torch: pip install mien[train]")
pytest.importorskip("onnx", reason="training needs onnx: pip install mien[train]")

import onnxruntime
import torch
from torch import nn

from models.drgan.network import Decoder, Discriminator, DownUnit, Encoded, Encoder, fuse
from models.drgan.pretrained import PretrainedEncoder


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_parameter_counts_are_those_of_the_papers_table() -> None:
    assert parameters(Encoder()) == 2_863_426
    assert parameters(Decoder(codes=13, noise=50)) == 7_285_027
    assert parameters(Discriminator(10_575, 13)) == 6_261_053
    assert parameters(Discriminator(200, 9)) == 2_929_394
    assert parameters(Discriminator(1_680, 13)) == 3_405_758


def layers(network: Encoder | Decoder, *inputs: torch.Tensor) -> dict[str, tuple[int, ...]]:
    """Output height, width and channels of every named layer of the trunk."""
    found: dict[str, tuple[int, ...]] = {}
    for name, unit in network.trunk.named_children():
        unit.register_forward_hook(
            lambda _, __, out, name=name: found.update({name: (*out.shape[2:], out.shape[1])})
        )
    with torch.no_grad():
        network.eval()(*inputs)
    return found


def test_every_layer_has_the_shape_of_the_papers_table() -> None:
    assert layers(Encoder(), torch.zeros(1, 3, 96, 96)) == {
        "Conv11": (96, 96, 32), "Conv12": (96, 96, 64),
        "Conv21": (48, 48, 64), "Conv22": (48, 48, 64), "Conv23": (48, 48, 128),
        "Conv31": (24, 24, 128), "Conv32": (24, 24, 96), "Conv33": (24, 24, 192),
        "Conv41": (12, 12, 192), "Conv42": (12, 12, 128), "Conv43": (12, 12, 256),
        "Conv51": (6, 6, 256), "Conv52": (6, 6, 160), "Conv53": (6, 6, 321),
    }  # fmt: skip
    inputs = torch.zeros(1, 320), torch.zeros(1, 13), torch.zeros(1, 50)
    assert layers(Decoder(13, 50), *inputs) == {
        "FConv52": (6, 6, 160), "FConv51": (6, 6, 256),
        "FConv43": (12, 12, 256), "FConv42": (12, 12, 128), "FConv41": (12, 12, 192),
        "FConv33": (24, 24, 192), "FConv32": (24, 24, 96), "FConv31": (24, 24, 128),
        "FConv23": (48, 48, 128), "FConv22": (48, 48, 64), "FConv21": (48, 48, 64),
        "FConv13": (96, 96, 64), "FConv12": (96, 96, 32),
    }  # fmt: skip


def test_the_feature_may_be_negative_and_the_weight_lies_between_0_and_1() -> None:
    torch.manual_seed(0)
    encoder = Encoder(0.25)
    images = torch.rand(8, 3, 96, 96) * 2 - 1
    encoded = encoder(images)

    assert encoded.feature.shape == (8, 320)
    assert encoded.weight.shape == (8, 1)
    assert encoder.trunk(images).min() < -1.5  # an ELU would end at -1
    assert ((encoded.weight > 0) & (encoded.weight < 1)).all()


def test_strided_layers_pad_right_and_bottom_only() -> None:
    unit = DownUnit(1, 1, stride=2).eval()
    nn.init.zeros_(unit.conv.weight)
    unit.conv.weight.data[0, 0, 0, 0] = 1.0  # reads the upper left of each window
    maps = torch.zeros(1, 1, 8, 8)
    maps[0, 0, 0, 0] = 1.0
    assert unit(maps).shape == (1, 1, 4, 4)
    assert unit(maps)[0, 0, 0, 0] > 0.5


def test_decoded_faces_lie_between_minus_1_and_1() -> None:
    decoder = Decoder(codes=7, noise=5, width=0.25)
    made = decoder(torch.randn(4, 320) * 100, torch.eye(7)[:4], torch.rand(4, 5))
    assert made.shape == (4, 3, 96, 96)
    assert made.abs().max() <= 1


def test_the_later_variant_takes_yaw_and_has_three_heads() -> None:
    decoder = Decoder(codes=1, noise=5, width=0.25, variant="tpami18")
    made = decoder(torch.randn(2, 320), torch.tensor([[0.0], [1.0]]), torch.zeros(2, 5))
    judged = Discriminator(6, 13, 0.25, "tpami18")(made)

    assert judged.identity.shape == (2, 6)
    assert judged.identity.abs().max() <= 1.0001  # cosines
    assert judged.pose.shape == (2, 1)
    assert judged.real is not None
    assert judged.real.shape == (2, 1)


def test_fusion_is_the_weighted_mean_of_each_persons_images() -> None:
    feature = torch.arange(12.0).reshape(4, 3).repeat(1, 107)[:, :320]
    weight = torch.tensor([[1.0], [3.0], [0.5], [0.5]])
    fused = fuse(Encoded(feature, weight), 2)

    assert fused.shape == (2, 320)
    torch.testing.assert_close(fused[0], (feature[0] + 3 * feature[1]) / 4)
    torch.testing.assert_close(fused[1], (feature[2] + feature[3]) / 2)


def test_a_pretrained_encoder_starts_with_its_trunks_own_cosines() -> None:
    torch.manual_seed(0)
    encoder = PretrainedEncoder(None, freeze=True).eval()
    images = torch.rand(3, 3, 96, 96) * 2 - 1
    large = nn.functional.interpolate(images, size=(112, 112), mode="bilinear")
    own = encoder.trunk((large + 1) * 127.5)
    encoded = encoder(images)

    torch.testing.assert_close(encoded.feature[:, :128], own)
    assert not encoded.feature[:, 128:].any()
    torch.testing.assert_close(encoded.weight, torch.full((3, 1), 0.5))


def test_a_frozen_trunk_learns_nothing_but_its_heads_do() -> None:
    encoder = PretrainedEncoder(None, freeze=True)
    encoded = encoder(torch.rand(4, 3, 96, 96))
    (encoded.feature.square().sum() + encoded.weight.sum()).backward()

    assert all(p.grad is None for p in encoder.trunk.parameters())
    assert encoder.feature.weight.grad is not None
    assert encoder.weight.weight.grad is not None


def test_a_released_network_can_be_the_start(zoo_poseface: Path) -> None:
    encoder = PretrainedEncoder(zoo_poseface, freeze=True).eval()
    images = torch.rand(2, 3, 112, 112, generator=torch.Generator().manual_seed(1)) * 255
    session = onnxruntime.InferenceSession(str(zoo_poseface), providers=["CPUExecutionProvider"])
    theirs = torch.from_numpy(session.run(None, {"data": images.numpy()})[0])
    with torch.no_grad():
        cosine = nn.functional.cosine_similarity(encoder.trunk(images), theirs)
    assert cosine.min() > 0.9999
