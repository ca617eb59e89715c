from pathlib import Path

import pytest

pytest.importorskip("torch", reason="training needs torch: pip install mien[train]")
pytest.importorskip("onnx", reason="training needs onnx: pip install mien[train]")

import torch
from torch import nn

from models.training.onnx_export import Precision, write_onnx


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_an_exported_file_tells_nothing_of_the_machine_that_made_it(
    tmp_path: Path, precision: Precision
) -> None:
    network = nn.Sequential(nn.Linear(64, 32), nn.BatchNorm1d(32), nn.PReLU(), nn.Linear(32, 8))
    path = tmp_path / "network.onnx"
    made = write_onnx(network, path, {"x": torch.randn(3, 64)}, ["y"], precision)
    assert made.least_cosine > 0.999
    data = path.read_bytes()
    assert b".py" not in data
    assert str(Path.home()).encode() not in data
