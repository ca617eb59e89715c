"""R3AN's networks, shapes as the method's table gives them (spec, section 3).

Only the generator's first and the extractor's last layer depend on the two models' dimensions.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

IMAGE_SIDE = 56
WEIGHT_SPREAD = 0.02
SLOPE = 0.2
EXPANSION = 6
WIDE = 1280
"""Channels before the extractor's pooling."""


class Up(NamedTuple):
    """A transposed convolution: channels out, kernel, stride, padding."""

    channels: int
    kernel: int
    stride: int
    padding: int


UPS = (Up(512, 4, 1, 0), Up(128, 3, 2, 1), Up(32, 4, 2, 1), Up(8, 4, 2, 1))
"""1 -> 4 -> 7 -> 14 -> 28; a kernel of 4 would make 8 of 4."""

DISCRIMINATOR_WIDTHS = (4, 8, 16, 32, 64, 128)


class Stage(NamedTuple):
    """Bottlenecks of the extractor: channels out and the first one's stride."""

    channels: int
    stride: int


STAGES = (Stage(32, 2), Stage(64, 2), Stage(96, 1), Stage(160, 2), Stage(320, 1))
SMALL, BIG = (1, 1, 1, 1, 1), (3, 4, 3, 3, 1)
"""Bottlenecks per stage."""


class Generator(nn.Module):
    """(B,d) scaled source vectors -> (B,3,56,56), RGB, -1 to 1: a face, and so never given out.

    Args:
        dimension: of the source model's vectors.
    """

    def __init__(self, dimension: int):
        super().__init__()
        layers: list[nn.Module] = []
        before = dimension
        for up in UPS:
            layers += [
                nn.ConvTranspose2d(
                    before, up.channels, up.kernel, up.stride, up.padding, bias=False
                ),
                nn.BatchNorm2d(up.channels),
                nn.ReLU(),
            ]
            before = up.channels
        self.body = nn.Sequential(*layers)
        self.last = nn.ConvTranspose2d(before, 3, 4, 2, 1)
        self.apply(_first_weights)

    def forward(self, vectors: Tensor) -> Tensor:
        """(B,d) -> (B,3,56,56)."""
        return torch.tanh(self.last(self.body(vectors[:, :, None, None])))


class Discriminator(nn.Module):
    """(B,3,56,56) -> (B,1) logits, high for real faces; 28, 14, 7, 4, 2, 1 pixels on the way."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, width in pairwise((3, *DISCRIMINATOR_WIDTHS)):
            first = before == 3
            layers.append(nn.Conv2d(before, width, 3, 2, 1, bias=first))
            if not first:
                layers.append(nn.BatchNorm2d(width))
            layers.append(nn.LeakyReLU(SLOPE))
        self.body = nn.Sequential(*layers)
        self.fc = nn.Linear(DISCRIMINATOR_WIDTHS[-1], 1)
        self.apply(_first_weights)

    def forward(self, images: Tensor) -> Tensor:
        """(B,3,56,56) -> (B,1)."""
        logits: Tensor = self.fc(self.body(images).flatten(1))
        return logits


class Bottleneck(nn.Module):
    """MobileNetV2's inverted residual: 1x1 up, depthwise 3x3, linear 1x1 down."""

    def __init__(self, before: int, after: int, stride: int):
        super().__init__()
        inner = EXPANSION * before
        self.body = nn.Sequential(
            nn.Conv2d(before, inner, 1, bias=False),
            nn.BatchNorm2d(inner),
            nn.ReLU6(),
            nn.Conv2d(inner, inner, 3, stride, 1, groups=inner, bias=False),
            nn.BatchNorm2d(inner),
            nn.ReLU6(),
            nn.Conv2d(inner, after, 1, bias=False),
            nn.BatchNorm2d(after),
        )
        self.shortcut = stride == 1 and before == after

    def forward(self, x: Tensor) -> Tensor:
        """(B,C,h,w) -> (B,C',h/s,w/s)."""
        made: Tensor = self.body(x)
        return x + made if self.shortcut else made


class Extractor(nn.Module):
    """(B,3,56,56), RGB, -1 to 1 -> (B,d) scaled target vectors.

    Args:
        dimension: of the target model's vectors.
        repeats: bottlenecks per stage.
    """

    def __init__(self, dimension: int, repeats: tuple[int, ...] = SMALL):
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for stage, count in zip(STAGES, repeats, strict=True):
            for k in range(count):
                layers.append(Bottleneck(before, stage.channels, stage.stride if k == 0 else 1))
                before = stage.channels
        layers += [nn.Conv2d(before, WIDE, 1, bias=False), nn.BatchNorm2d(WIDE), nn.ReLU6()]
        self.body = nn.Sequential(*layers)
        self.fc = nn.Linear(WIDE, dimension)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def forward(self, images: Tensor) -> Tensor:
        """(B,3,56,56) -> (B,d)."""
        features: Tensor = self.fc(self.body(images).mean(dim=(2, 3)))
        return features


class Networks(NamedTuple):
    """The three networks of a run."""

    generator: Generator
    discriminator: Discriminator
    extractor: Extractor


class R3an(nn.Module):
    """What is served: unit source vector (B,d_S) -> target vector (B,d_T), not scaled to length 1.

    Args:
        generator: takes vectors times the root of their dimension.
        extractor: of the generated faces.
    """

    def __init__(self, generator: Generator, extractor: Extractor):
        super().__init__()
        self.generator, self.extractor = generator, extractor

    def forward(self, vectors: Tensor) -> Tensor:
        """(B,d_S) -> (B,d_T); the face in between does not leave."""
        made: Tensor = self.extractor(self.generator(scaled(vectors)))
        return made


def scaled(vectors: Tensor) -> Tensor:
    """(B,d) unit vectors with coordinates of about unit variance (spec, section 2)."""
    return F.normalize(vectors) * math.sqrt(vectors.shape[1])


@torch.no_grad()
def restate(generator: Generator, extractor: Extractor, vectors: Tensor, batch: int = 256) -> None:
    """Batch statistics of both networks anew, on generated faces alone.

    In training the extractor sees real faces too; served, it sees generated ones only, and blended
    statistics cost most of the accuracy (spec, section 10).

    Args:
        generator: its own statistics come first, with its final weights.
        extractor: changed in place.
        vectors: (N,d_S) scaled source vectors.
        batch: vectors at a time; a rest of one alone is left out.
    """
    for network in (generator, extractor):
        _forget(network)
        blocks = [block for block in torch.split(vectors, batch) if len(block) > 1]
        generator.train(network is generator)
        extractor.train(network is extractor)
        for block in blocks:
            faces = generator(block)
            if network is extractor:
                extractor(faces)
    generator.eval()
    extractor.eval()
    for network in (generator, extractor):
        for norm in _norms(network):
            norm.momentum = 0.1


def _forget(network: nn.Module) -> None:
    for norm in _norms(network):
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over all batches


def _norms(network: nn.Module) -> list[nn.BatchNorm2d]:
    return [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]


def _first_weights(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        nn.init.normal_(module.weight, 0, WEIGHT_SPREAD)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
