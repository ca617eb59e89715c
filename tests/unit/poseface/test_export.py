from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="PoseFace trains with torch: pip install mien[train]")
pytest.importorskip("onnx", reason="PoseFace's export needs onnx: pip install mien[train]")
pytest.importorskip("onnxscript", reason="torch's exporter needs onnxscript: mien[train]")

import onnxruntime
import torch

from models.poseface.export import blend, export_onnx, mean_network
from models.poseface.network import build_network, serving_network
from models.training.onnx_export import Precision

LIMIT = 60_000_000


@pytest.mark.parametrize(
    ("precision", "least", "largest"), [("fp32", 0.999999, 41e6), ("fp16", 0.9999, 21e6)]
)
def test_the_exported_sface_layers_agree_with_torch(
    tmp_path: Path, precision: Precision, least: float, largest: float
) -> None:
    torch.manual_seed(0)
    served = serving_network(build_network("sface", pose_dim=8))
    made = export_onnx(served, tmp_path / "model.onnx", precision)
    assert made.least_cosine > least
    assert made.size == made.path.stat().st_size < largest < LIMIT


def test_any_batch_goes_through_by_the_stated_names(tmp_path: Path) -> None:
    torch.manual_seed(0)
    served = serving_network(build_network("mobilefacenet", pose_dim=8, identity_dim=32))
    made = export_onnx(served, tmp_path / "model.onnx", "fp16")
    session = onnxruntime.InferenceSession(str(made.path))
    assert [i.name for i in session.get_inputs()] == ["data"]
    assert [o.name for o in session.get_outputs()] == ["embedding"]
    for count in (1, 3):
        pictures = np.full((count, 3, 112, 112), 128, np.float32)
        assert session.run(None, {"data": pictures})[0].shape == (count, 32)
    assert [p.name for p in tmp_path.iterdir()] == ["model.onnx"]


def test_a_blend_lies_between_the_start_and_the_trained_network() -> None:
    torch.manual_seed(0)
    start = build_network("mobilefacenet", pose_dim=8, identity_dim=32)
    trained = build_network("mobilefacenet", pose_dim=8, identity_dim=32)
    before = trained.trunk.dense.weight.detach().clone()
    middle = blend(trained, start, 0.25).trunk.dense.weight
    assert torch.allclose(middle, 0.75 * before + 0.25 * start.trunk.dense.weight)


def test_the_mean_network_has_the_mean_weights_and_statistics() -> None:
    torch.manual_seed(0)
    made = [build_network("mobilefacenet", pose_dim=8, identity_dim=32) for _ in range(3)]
    weights = [network.trunk.dense.weight.detach().clone() for network in made]
    for factor, network in enumerate(made):
        norm = network.trunk.dense_norm
        assert isinstance(norm, torch.nn.BatchNorm1d)
        assert norm.running_var is not None
        norm.running_var.fill_(1.0 + factor)
    mean = mean_network(made)
    assert torch.allclose(mean.trunk.dense.weight, torch.stack(weights).mean(dim=0))
    assert torch.allclose(mean.trunk.dense_norm.running_var, torch.tensor(2.0))  # type: ignore[arg-type]
