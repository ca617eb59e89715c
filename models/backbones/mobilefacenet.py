"""MobileFaceNet for 112x112 faces: inverted residuals and a global depthwise convolution."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from models.backbones.trunk import Trunk

INPUT_MEAN = 127.5
INPUT_RANGE = 127.5
WIDTH = 512
STEM = 64
MAP_SIDE = 7


class Bottlenecks(NamedTuple):
    """A run of bottlenecks: expansion, channels out, repeats, stride of the first."""

    expansion: int
    channels: int
    repeats: int
    stride: int


PLAN = (
    Bottlenecks(2, 64, 5, 2),
    Bottlenecks(4, 128, 1, 2),
    Bottlenecks(2, 128, 6, 1),
    Bottlenecks(4, 128, 1, 2),
    Bottlenecks(2, 128, 2, 1),
)


def unit(
    c_in: int,
    c_out: int,
    kernel: int,
    stride: int = 1,
    *,
    depthwise: bool = False,
    act: bool = True,
    plain: bool = False,
) -> nn.Sequential:
    """Convolution, batch norm and, unless `act` is off, PReLU.

    A `plain` one has a bias instead of the norm, and ReLU6 instead of PReLU.
    """
    groups = c_in if depthwise else 1
    layers: list[nn.Module] = [
        nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, groups=groups, bias=plain)
    ]
    if not plain:
        layers.append(nn.BatchNorm2d(c_out))
    if act:
        layers.append(nn.ReLU6() if plain else nn.PReLU(c_out))
    return nn.Sequential(*layers)


class Bottleneck(nn.Module):
    """1x1 up, depthwise 3x3, linear 1x1 down; a shortcut when the shape stays."""

    def __init__(self, c_in: int, c_out: int, stride: int, expansion: int, *, plain: bool = False):
        super().__init__()
        inner = c_in * expansion
        self.shortcut = stride == 1 and c_in == c_out
        self.body = nn.Sequential(
            unit(c_in, inner, 1, plain=plain),
            unit(inner, inner, 3, stride, depthwise=True, plain=plain),
            unit(inner, c_out, 1, act=False, plain=plain),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B,Cin,H,W) -> (B,Cout,H/stride,W/stride)."""
        out: Tensor = self.body(x)
        return x + out if self.shortcut else out


def bottlenecks(*, plain: bool = False) -> list[nn.Module]:
    """The fifteen of `PLAN`: (B,64,56,56) -> (B,128,7,7)."""
    blocks: list[nn.Module] = []
    channels = STEM
    for run in PLAN:
        for index in range(run.repeats):
            stride = run.stride if index == 0 else 1
            blocks.append(Bottleneck(channels, run.channels, stride, run.expansion, plain=plain))
            channels = run.channels
    return blocks


class MobileFaceNet(Trunk):
    """1,200,512 parameters and 221 M multiply-adds with `dim=512` (the spec's table)."""

    def __init__(self, dim: int = 512):
        super().__init__(nn.Linear(WIDTH, dim, bias=False), nn.BatchNorm1d(dim))
        self.blocks = nn.Sequential(
            unit(3, STEM, 3, 2),
            unit(STEM, STEM, 3, depthwise=True),
            *bottlenecks(),
            unit(PLAN[-1].channels, WIDTH, 1),
        )
        self.pool = nn.Sequential(
            nn.Conv2d(WIDTH, WIDTH, MAP_SIDE, groups=WIDTH, bias=False), nn.BatchNorm2d(WIDTH)
        )

    def feature_map(self, images: Tensor) -> Tensor:
        """(B,3,112,112) RGB 0-255 -> (B,512,1,1)."""
        out: Tensor = self.pool(self.blocks((images - INPUT_MEAN) / INPUT_RANGE))
        return out

    def stages(self) -> list[nn.Module]:
        """Stem, depthwise stem, fifteen bottlenecks, the widening convolution."""
        return list(self.blocks)
