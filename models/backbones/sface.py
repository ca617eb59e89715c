"""SFace's network in torch, filled layer by layer from its ONNX file.

SFace (Apache-2.0, OpenCV model zoo, 2021dec) is a MobileNetV1 for 112x112 faces: one plain
convolution, then thirteen pairs of depthwise 3x3 and pointwise 1x1, each convolution followed by
batch norm and PReLU; the 1024x7x7 map is normalised, flattened and sent through one dense layer.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from models.backbones.stored import copy_rows, stored_arrays
from models.backbones.trunk import Trunk, affine_of, channels_last

INPUT_MEAN = 127.5
INPUT_SCALE = 0.0078125
"""The graph's own first two nodes: (x - 127.5) / 128, so that pictures go in as 0-255."""

CONV_EPS = 0.001
DENSE_EPS = 2e-5
SFACE_DIM = 128
MAP_CHANNELS = 1024
MAP_SIDE = 7
FLAT = MAP_CHANNELS * MAP_SIDE * MAP_SIDE


class Stage(NamedTuple):
    """One depthwise-pointwise pair: channels in and out, stride of the depthwise part."""

    channels_in: int
    channels_out: int
    stride: int


STEM_CHANNELS = 32
STAGES = (
    Stage(32, 64, 1),
    Stage(64, 128, 2),
    Stage(128, 128, 1),
    Stage(128, 256, 2),
    Stage(256, 256, 1),
    Stage(256, 512, 2),
    *(Stage(512, 512, 1),) * 5,
    Stage(512, 1024, 2),
    Stage(1024, 1024, 1),
)


class ConvUnit(nn.Module):
    """Convolution, batch norm, PReLU. After `fold` the norm is part of the convolution."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int, stride: int, groups: int):
        super().__init__()
        self.conv = nn.Conv2d(
            channels_in, channels_out, kernel, stride, kernel // 2, groups=groups, bias=False
        )
        self.norm: nn.Module = nn.BatchNorm2d(channels_out, eps=CONV_EPS)
        self.act = nn.PReLU(channels_out)

    def forward(self, x: Tensor) -> Tensor:
        """(B,Cin,H,W) -> (B,Cout,H/stride,W/stride)."""
        out: Tensor = self.act(self.norm(self.conv(x)))
        return out

    @torch.no_grad()
    def fold(self) -> None:
        """Move the norm's fixed statistics and scale into the convolution; once."""
        if not isinstance(self.norm, nn.BatchNorm2d):
            return
        scale, shift = affine_of(self.norm)
        self.conv.weight.mul_(scale[:, None, None, None])
        self.conv.bias = nn.Parameter(shift)
        self.norm = nn.Identity()


class SFaceBackbone(Trunk):
    """SFace's layers with a dense layer of free width.

    With `dim=128` and SFace's weights the output is SFace's own.
    """

    def __init__(self, dim: int = SFACE_DIM):
        super().__init__(nn.Linear(FLAT, dim), nn.BatchNorm1d(dim, eps=DENSE_EPS))
        self.stem = ConvUnit(3, STEM_CHANNELS, 3, 1, 1)
        units: list[nn.Module] = []
        for c_in, c_out, stride in STAGES:
            units.append(ConvUnit(c_in, c_in, 3, stride, c_in))
            units.append(ConvUnit(c_in, c_out, 1, 1, 1))
        self.units = nn.Sequential(*units)
        self.map_norm: nn.Module = nn.BatchNorm2d(MAP_CHANNELS, eps=DENSE_EPS)

    def feature_map(self, images: Tensor) -> Tensor:
        """(B,3,112,112) RGB 0-255 -> (B,1024,7,7)."""
        x = (images - INPUT_MEAN) * INPUT_SCALE
        out: Tensor = self.map_norm(self.units(self.stem(x)))
        return out

    def stages(self) -> list[nn.Module]:
        """The stem, then the thirteen depthwise-pointwise pairs."""
        units = list(self.units)
        return [self.stem, *(nn.ModuleList(units[i : i + 2]) for i in range(0, len(units), 2))]

    def conv_units(self) -> Iterator[ConvUnit]:
        """The 27 convolution units in the graph's order."""
        yield self.stem
        for unit in self.units:
            if isinstance(unit, ConvUnit):
                yield unit

    @torch.no_grad()
    def fold(self) -> None:
        """Fold every batch norm into its neighbour."""
        for unit in self.conv_units():
            unit.fold()
        if isinstance(self.map_norm, nn.BatchNorm2d):
            scale, shift = affine_of(self.map_norm)
            blocks = self.dense.weight.view(self.dim, MAP_CHANNELS, -1)
            self.dense.bias.add_(blocks.sum(2) @ shift)
            blocks.mul_(scale[None, :, None])
            self.map_norm = nn.Identity()
        super().fold()


def load_sface(backbone: SFaceBackbone, path: Path) -> None:
    """Fill an unfolded backbone from SFace's ONNX file.

    A dense layer wider than 128 keeps its own start values in the added rows.

    Raises:
        ValueError: the file holds other layers than SFace's.
    """
    graph = onnx.load(str(path)).graph
    arrays = stored_arrays(graph)
    nodes = list(graph.node)
    convs = [node for node in nodes if node.op_type == "Conv"]
    norms = [node for node in nodes if node.op_type == "BatchNormalization"]
    acts = [node for node in nodes if node.op_type == "PRelu"]
    dense = [node for node in nodes if node.op_type == "Gemm"]
    units = list(backbone.conv_units())
    if not (len(convs) == len(acts) == len(units) == len(norms) - 2) or len(dense) != 1:
        raise ValueError(f"{path.name} does not have SFace's layers")
    for unit, conv, norm, act in zip(units, convs, norms, acts, strict=False):
        copy_rows(unit.conv.weight, arrays[conv.input[1]])
        _copy_norm(unit.norm, [arrays[name] for name in norm.input[1:]])
        copy_rows(unit.act.weight, arrays[act.input[1]].reshape(-1))
    _copy_norm(backbone.map_norm, [arrays[name] for name in norms[-2].input[1:]])
    copy_rows(backbone.dense.weight, arrays[dense[0].input[1]])
    copy_rows(backbone.dense.bias, arrays[dense[0].input[2]])
    _copy_norm(backbone.dense_norm, [arrays[name] for name in norms[-1].input[1:]])


def load_folded(backbone: SFaceBackbone, path: Path) -> None:
    """Fill a folded backbone from a file whose norms are folded too, as PoseFace is exported.

    Raises:
        ValueError: the file holds other layers than SFace's.
    """
    graph = onnx.load(str(path)).graph
    arrays = stored_arrays(graph)
    convs = [node for node in graph.node if node.op_type == "Conv"]
    acts = [node for node in graph.node if node.op_type == "PRelu"]
    dense = [node for node in graph.node if node.op_type == "Gemm"]
    units = list(backbone.conv_units())
    if not (len(convs) == len(acts) == len(units)) or len(dense) != 1:
        raise ValueError(f"{path.name} does not have SFace's layers")
    for unit, conv, act in zip(units, convs, acts, strict=True):
        if unit.conv.bias is None:
            raise TypeError("a folded file fills a folded backbone")
        copy_rows(unit.conv.weight, arrays[conv.input[1]])
        copy_rows(unit.conv.bias, arrays[conv.input[2]])
        copy_rows(unit.act.weight, arrays[act.input[1]].reshape(-1))
    copy_rows(backbone.dense.weight, arrays[dense[0].input[1]])
    copy_rows(backbone.dense.bias, arrays[dense[0].input[2]])


def load_trunk(path: Path) -> SFaceBackbone:
    """SFace or PoseFace from its ONNX file, in evaluation mode, norms folded.

    Raises:
        ValueError: the file holds other layers than SFace's.
    """
    backbone = SFaceBackbone()
    backbone.eval()
    nodes = onnx.load(str(path), load_external_data=False).graph.node
    if any(node.op_type == "BatchNormalization" for node in nodes):
        load_sface(backbone, path)
        backbone.fold()
    else:
        backbone.fold()
        load_folded(backbone, path)
    return channels_last(backbone)


def _copy_norm(norm: nn.Module, values: list[np.ndarray]) -> None:
    if not isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
        raise TypeError("weights are loaded before folding, not after")
    if norm.running_mean is None or norm.running_var is None:
        raise ValueError("a batch norm without running statistics cannot hold weights")
    for target, array in zip(
        (norm.weight, norm.bias, norm.running_mean, norm.running_var), values, strict=True
    ):
        copy_rows(target, array)
