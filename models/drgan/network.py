"""DR-GAN's networks: encoder, decoder, discriminator (Tran et al., CVPR 2017, Table 1).

Images are (B,3,96,96), RGB, -1 to 1. Every convolution is 3x3 with batch norm and ELU. Strided
ones pad right and bottom only, as the original does. `width` scales the channels of all layers but
the 320 of the feature: 1 is the paper's.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

FEATURE_DIM = 320
IMAGE_SIDE = 96
MAP_SIDE = 6
INIT_SPREAD = 0.02
"""Standard deviation of all starting weights, as in DC-GAN."""

Variant = Literal["cvpr17", "tpami18"]


class Layer(NamedTuple):
    """One convolution of the table: its name there, stride, channels."""

    name: str
    stride: int
    channels: int


DOWN = (
    Layer("Conv11", 1, 32),
    Layer("Conv12", 1, 64),
    Layer("Conv21", 2, 64),
    Layer("Conv22", 1, 64),
    Layer("Conv23", 1, 128),
    Layer("Conv31", 2, 128),
    Layer("Conv32", 1, 96),
    Layer("Conv33", 1, 192),
    Layer("Conv41", 2, 192),
    Layer("Conv42", 1, 128),
    Layer("Conv43", 1, 256),
    Layer("Conv51", 2, 256),
    Layer("Conv52", 1, 160),
    Layer("Conv53", 1, FEATURE_DIM),
)
SHARED = 11
"""Layers before Conv51, where the heads of the "tpami18" discriminator part."""

UP = (
    Layer("FConv52", 1, 160),
    Layer("FConv51", 1, 256),
    Layer("FConv43", 2, 256),
    Layer("FConv42", 1, 128),
    Layer("FConv41", 1, 192),
    Layer("FConv33", 2, 192),
    Layer("FConv32", 1, 96),
    Layer("FConv31", 1, 128),
    Layer("FConv23", 2, 128),
    Layer("FConv22", 1, 64),
    Layer("FConv21", 1, 64),
    Layer("FConv13", 2, 64),
    Layer("FConv12", 1, 32),
)


class Encoded(NamedTuple):
    """Feature (B,320), not L2-normalised, and fusion weight (B,1) in (0,1) of each image."""

    feature: Tensor
    weight: Tensor


class DownUnit(nn.Module):
    """Convolution without bias, batch norm and, unless it is the last, ELU."""

    def __init__(self, channels_in: int, channels_out: int, stride: int, *, active: bool = True):
        super().__init__()
        self.stride = stride
        self.conv = nn.Conv2d(channels_in, channels_out, 3, stride, 0, bias=False)
        self.norm = nn.BatchNorm2d(channels_out)
        self.active = active

    def forward(self, x: Tensor) -> Tensor:
        """(B,Cin,H,W) -> (B,Cout,H/stride,W/stride)."""
        before = 1 if self.stride == 1 else 0
        out = self.norm(self.conv(F.pad(x, (before, 1, before, 1))))
        return F.elu(out) if self.active else out


def down_units(layers: tuple[Layer, ...], channels_in: int, width: float, last: int) -> nn.Module:
    """A chain of units; `last` replaces the channels of Conv53, which has no ELU."""
    units = nn.Sequential()
    for layer in layers:
        final = layer.name == DOWN[-1].name
        channels = last if final else scaled(layer.channels, width)
        unit = DownUnit(channels_in, channels, layer.stride, active=not final)
        units.add_module(layer.name, unit)
        channels_in = channels
    return units


def scaled(channels: int, width: float) -> int:
    """Channels at a width, at least 8."""
    return max(8, round(channels * width))


class Encoder(nn.Module):
    """G_enc: a face to its feature and its fusion weight, the 321st channel of Conv53.

    Args:
        width: factor on the channels.
    """

    def __init__(self, width: float = 1.0):
        super().__init__()
        self.trunk = down_units(DOWN, 3, width, FEATURE_DIM + 1)
        self.apply(initialise)

    def forward(self, images: Tensor) -> Encoded:
        """(B,3,96,96) -> `Encoded`."""
        pooled = self.trunk(images).mean(dim=(2, 3))
        return Encoded(pooled[:, :FEATURE_DIM], torch.sigmoid(pooled[:, FEATURE_DIM:]))


def fuse(encoded: Encoded, images: int) -> Tensor:
    """Weighted mean of the features of consecutive `images` of one person.

    Args:
        encoded: of P x n images, a person's side by side.
        images: n.

    Returns:
        (P,320): sum of w f over sum of w.
    """
    features = encoded.feature.float().reshape(-1, images, FEATURE_DIM)
    weights = encoded.weight.float().reshape(-1, images, 1)
    return (weights * features).sum(dim=1) / weights.sum(dim=1)


class Decoder(nn.Module):
    """G_dec: feature, pose code and noise to a face of that person in that pose.

    Args:
        codes: width of the pose code: one per yaw bin, or 1 for yaw in radians ("tpami18").
        noise: width of z.
        width: factor on the channels.
        variant: "tpami18" sends the scalar pose through a layer of its own first.
    """

    def __init__(
        self, codes: int, noise: int = 50, width: float = 1.0, variant: Variant = "cvpr17"
    ):
        super().__init__()
        self.codes, self.noise = codes, noise
        self.pose_layer = nn.Linear(1, noise) if variant == "tpami18" else None
        pose_width = noise if self.pose_layer is not None else codes
        self.first = scaled(FEATURE_DIM, width)
        self.dense = nn.Linear(FEATURE_DIM + pose_width + noise, self.first * MAP_SIDE**2)
        self.trunk = nn.Sequential()
        channels_in = self.first
        for layer in UP:
            channels = scaled(layer.channels, width)
            unit = nn.Sequential(
                nn.ConvTranspose2d(
                    channels_in, channels, 3, layer.stride, 1, layer.stride - 1, bias=False
                ),
                nn.BatchNorm2d(channels),
                nn.ELU(),
            )
            self.trunk.add_module(layer.name, unit)
            channels_in = channels
        self.last = nn.ConvTranspose2d(channels_in, 3, 3, 1, 1)
        self.apply(initialise)

    def forward(self, feature: Tensor, pose: Tensor, noise: Tensor) -> Tensor:
        """(B,320), (B,codes), (B,noise) -> (B,3,96,96) in (-1,1)."""
        if self.pose_layer is not None:
            pose = F.elu(self.pose_layer(pose))
        flat = self.dense(torch.cat([feature, pose, noise], dim=1))
        return torch.tanh(self.last(self.trunk(flat.view(-1, self.first, MAP_SIDE, MAP_SIDE))))


class Judgement(NamedTuple):
    """What the discriminator says of a batch.

    Attributes:
        identity: (B,C+1) logits, the last being "fake"; (B,C) cosines in "tpami18".
        pose: (B,Np) logits; (B,1) yaw in radians in "tpami18".
        real: None; (B,1) logit of "real" in "tpami18".
    """

    identity: Tensor
    pose: Tensor
    real: Tensor | None


class Discriminator(nn.Module):
    """D: who is this (or: is it fake), and how is it turned. Its trunk is its own.

    Args:
        people: N^d, training identities.
        codes: N^p, yaw bins.
        width: factor on the channels.
        variant: "tpami18" parts into three heads after Conv43: cosines to class centres, yaw,
            real or fake.
    """

    def __init__(self, people: int, codes: int, width: float = 1.0, variant: Variant = "cvpr17"):
        super().__init__()
        self.people, self.codes, self.variant = people, codes, variant
        if variant == "cvpr17":
            self.trunk = down_units(DOWN, 3, width, FEATURE_DIM)
            self.head = nn.Linear(FEATURE_DIM, people + codes + 1)
        else:
            self.trunk = down_units(DOWN[:SHARED], 3, width, FEATURE_DIM)
            channels = scaled(DOWN[SHARED - 1].channels, width)
            self.branches = nn.ModuleList(
                down_units(DOWN[SHARED:], channels, width, FEATURE_DIM) for _ in range(3)
            )
            self.centres = nn.Parameter(torch.empty(people, FEATURE_DIM))
            self.yaw = nn.Linear(FEATURE_DIM, 1)
            self.real = nn.Linear(FEATURE_DIM, 1)
            nn.init.normal_(self.centres, std=INIT_SPREAD)
        self.apply(initialise)

    def features(self, images: Tensor) -> Tensor:
        """(B,3,96,96) -> (B,320), what its identities are read from."""
        shared = self.trunk(images)
        if self.variant == "tpami18":
            shared = self.branches[0](shared)
        out: Tensor = shared.mean(dim=(2, 3))
        return out

    def forward(self, images: Tensor) -> Judgement:
        """(B,3,96,96) -> `Judgement`."""
        if self.variant == "cvpr17":
            logits = self.head(self.features(images))
            split = self.people + 1
            return Judgement(logits[:, :split], logits[:, split:], None)
        shared = self.trunk(images)
        who, how, real = (branch(shared).mean(dim=(2, 3)) for branch in self.branches)
        cosines = F.linear(F.normalize(who.float()), F.normalize(self.centres.float()))
        return Judgement(cosines, self.yaw(how), self.real(real))


def initialise(module: nn.Module) -> None:
    """N(0, 0.02) for convolutions and dense layers, zero for their biases."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        nn.init.normal_(module.weight, std=INIT_SPREAD)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
