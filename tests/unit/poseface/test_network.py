from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="PoseFace trains with torch: pip install mien[train]")
pytest.importorskip("onnx", reason="SFace's weights are read with onnx: mien[train]")

import torch
from torch.nn import functional as F  # noqa: N812

from models.backbones.foamliu import FoamliuBackbone
from models.backbones.iresnet import IResNet
from models.backbones.mobilefacenet import MobileFaceNet
from models.backbones.sface import SFaceBackbone, load_sface
from models.backbones.trunk import Trunk
from models.poseface.export import export_onnx
from models.poseface.network import PoseFaceNet, build_network, build_trunk, serving_network
from models.zoo import Zoo


def parameters(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def pictures(count: int = 2) -> torch.Tensor:
    coarse = torch.rand(count, 3, 14, 14, generator=torch.Generator().manual_seed(0)) * 255
    return F.interpolate(coarse, 112, mode="bilinear")


def shaken(trunk: Trunk) -> Trunk:
    """Norms that do something: random statistics and scales."""
    torch.manual_seed(0)
    for module in trunk.modules():
        if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            torch.nn.init.uniform_(module.weight, 0.8, 1.2)
    return trunk


@pytest.fixture(scope="module")
def sface_file(mien_home: Path) -> Path:
    zoo = Zoo(mien_home)
    return zoo.weights(zoo.card("sface"))


@pytest.mark.parametrize(
    ("trunk", "count"),
    [
        (MobileFaceNet(512), 1_200_512),
        (MobileFaceNet(576), 1_233_408),
        (IResNet(512, depth=18), 24_025_600),
        (IResNet(512, depth=50), 43_590_848),
    ],
    ids=["mobilefacenet-512", "mobilefacenet-576", "iresnet18", "iresnet50"],
)
def test_parameter_counts_agree_with_the_specification(trunk: Trunk, count: int) -> None:
    assert parameters(trunk) == count


def test_the_heads_of_the_large_profile_have_the_stated_size() -> None:
    network = build_network("mobilefacenet", pose_dim=64)
    assert network.identity_head.weight.shape == (512, 576)
    assert network.pose_head.weight.shape == (64, 576)


def test_a_trunk_too_narrow_for_orthogonal_heads_is_refused() -> None:
    with pytest.raises(ValueError, match="too narrow"):
        PoseFaceNet(MobileFaceNet(64), identity_dim=64, pose_dim=8)
    network = PoseFaceNet(MobileFaceNet(72), identity_dim=64, pose_dim=8)
    assert not (network.identity_head.weight @ network.pose_head.weight.T).any()


@pytest.mark.parametrize("backbone", ["sface", "foamliu", "mobilefacenet", "iresnet18"])
def test_the_served_network_says_what_the_trained_one_said(backbone: str) -> None:
    trunk = shaken(build_trunk(backbone, 40))  # type: ignore[arg-type]
    network = PoseFaceNet(trunk, identity_dim=32, pose_dim=8).eval()
    torch.nn.init.normal_(network.identity_head.weight)
    with torch.no_grad():
        trained = network(pictures()).identity
        served = serving_network(network)(pictures())
    assert F.cosine_similarity(trained, served).min() > 0.99999
    assert network.trunk.dim == 40


def test_serving_costs_what_the_plain_network_costs() -> None:
    served = serving_network(build_network("sface", pose_dim=8))
    plain = SFaceBackbone().eval()
    plain.fold()
    assert parameters(served) == parameters(plain)


def test_sface_in_torch_equals_its_onnx_file(sface_file: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    quiet = onnxruntime.SessionOptions()
    quiet.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(sface_file), quiet)
    trunk = SFaceBackbone()
    load_sface(trunk, sface_file)
    trunk.eval()
    for picture in pictures(3):
        with torch.no_grad():
            ours = trunk(picture[None]).numpy()[0]
        theirs = np.asarray(session.run(None, {"data": picture[None].numpy()})[0])[0]
        cosine = ours @ theirs / np.linalg.norm(ours) / np.linalg.norm(theirs)
        assert cosine > 0.99999
        assert np.abs(ours - theirs).max() < 1e-4


def test_before_training_the_identity_feature_is_sfaces(sface_file: Path) -> None:
    plain = SFaceBackbone()
    load_sface(plain, sface_file)
    network = build_network("sface", pose_dim=8, start=sface_file)
    with torch.no_grad():
        expected = plain.eval()(pictures())
        assert torch.equal(network.eval()(pictures()).identity, expected)
        served = serving_network(network)(pictures())
    assert torch.allclose(served, expected, atol=1e-4)


def test_sface_weights_do_not_go_into_another_network(sface_file: Path) -> None:
    with pytest.raises(ValueError, match="only the layers"):
        build_network("mobilefacenet", pose_dim=8, start=sface_file)


def test_foamliu_layers_start_from_a_file(tmp_path: Path) -> None:
    torch.manual_seed(1)
    stored = serving_network(build_network("foamliu", pose_dim=8))
    made = export_onnx(stored, tmp_path / "stored.onnx")
    torch.manual_seed(2)
    network = build_network("foamliu", pose_dim=8, start=made.path).eval()
    with torch.no_grad():
        expected = stored(pictures())
        assert expected.std() > 0
        assert torch.allclose(network(pictures()).identity, expected, atol=1e-5)
    assert not network.trunk.dense.weight[128:].any()
    assert parameters(network.trunk) == parameters(FoamliuBackbone(136))


def test_foamliu_layers_do_not_start_from_sface(sface_file: Path) -> None:
    with pytest.raises(ValueError, match="does not have the layers"):
        build_network("foamliu", pose_dim=8, start=sface_file)
