"""Foamliu's MobileFaceNet in torch, filled layer by layer from its ONNX file.

The network (Apache-2.0) is MobileFaceNet's plan with three differences: the stem is a separable
convolution, ReLU and ReLU6 stand where the paper has PReLU, and pictures are normalised as for
ImageNet. The file's batch norms are part of its convolutions already.
"""

from __future__ import annotations

from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from models.backbones.mobilefacenet import MAP_SIDE, PLAN, STEM, WIDTH, bottlenecks, unit
from models.backbones.stored import copy_rows, stored_arrays
from models.backbones.trunk import Trunk

INPUT_MEAN = (123.675, 116.28, 103.53)
INPUT_SCALE = (58.395, 57.12, 57.375)
"""Mean and deviation of ImageNet's red, green and blue, on 0-255."""

FOAMLIU_DIM = 128


class FoamliuBackbone(Trunk):
    """Its layers with a dense layer of free width.

    With `dim=128` and its weights the output is the file's own. 1.1 M parameters and 235 M
    multiply-adds, two fifths of SFace's work.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, dim: int = FOAMLIU_DIM):
        super().__init__(nn.Linear(WIDTH, dim), nn.BatchNorm1d(dim))
        depthwise = unit(STEM, STEM, 3, depthwise=True, act=False, plain=True)
        pointwise = unit(STEM, STEM, 1, act=False, plain=True)
        self.blocks = nn.Sequential(
            unit(3, STEM, 3, 2, plain=True),
            nn.Sequential(*depthwise, nn.ReLU()),
            nn.Sequential(*pointwise, nn.ReLU()),
            *bottlenecks(plain=True),
            unit(PLAN[-1].channels, WIDTH, 1, plain=True),
        )
        self.pool = nn.Conv2d(WIDTH, WIDTH, MAP_SIDE, groups=WIDTH)
        self.register_buffer("mean", torch.tensor(INPUT_MEAN)[:, None, None])
        self.register_buffer("scale", torch.tensor(INPUT_SCALE)[:, None, None])

    def feature_map(self, images: Tensor) -> Tensor:
        """(B,3,112,112) RGB 0-255 -> (B,512,1,1)."""
        out: Tensor = self.pool(self.blocks((images - self.mean) / self.scale))
        return out

    def stages(self) -> list[nn.Module]:
        """Three layers of the stem, fifteen bottlenecks, the widening convolution."""
        return list(self.blocks)


def load_foamliu(backbone: FoamliuBackbone, path: Path) -> None:
    """Fill a backbone from the ONNX file, or from one that was exported from such a backbone.

    A dense layer wider than the file's keeps its own start values in the added rows.

    Raises:
        ValueError: the file holds other layers.
    """
    graph = onnx.load(str(path)).graph
    arrays = stored_arrays(graph)
    stored = [node.input[1:] for node in graph.node if node.op_type in {"Conv", "Gemm"}]
    layers = [part for part in backbone.blocks.modules() if isinstance(part, nn.Conv2d)]
    layers.append(backbone.pool)
    if len(stored) != len(layers) + 1:
        raise ValueError(f"{path.name} does not have the layers of foamliu's MobileFaceNet")
    for layer, (weight, bias) in zip(layers, stored, strict=False):
        if layer.bias is not None:
            copy_rows(layer.bias, arrays[bias])
        copy_rows(layer.weight, arrays[weight])
    weight, bias = stored[-1]
    last = arrays[weight]
    copy_rows(backbone.dense.weight, last.reshape(last.shape[:2]))  # foamliu's: a 1x1 convolution
    copy_rows(backbone.dense.bias, arrays[bias])
