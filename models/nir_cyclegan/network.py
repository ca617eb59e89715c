"""CycleGAN's generator, `c7s1-64, d128, d256, R256 x 9, u128, u64, c7s1-3` (spec, section 4).

With `width=64` and 9 blocks it has 11,378,179 parameters, with 6 blocks 7,837,699. Instance norm
keeps no statistics: a picture by itself comes out as in any batch, in training as in serving. The
discriminator of 70x70 patches is DDAT's.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from models.backbones.stored import read_stored, take_stored
from models.ddat.network import initialise

EXPORTED_AS = "generator"
"""Where an exported file holds a generator: its name in `Served`."""


def _unit(conv: nn.Module, channels: int) -> list[nn.Module]:
    return [conv, nn.InstanceNorm2d(channels), nn.ReLU()]


class Block(nn.Module):
    """R: two 3x3 convolutions whose result is added; nothing follows the sum."""

    def __init__(self, channels: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.ReflectionPad2d(1),
            *_unit(nn.Conv2d(channels, channels, 3), channels),
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3),
            nn.InstanceNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B,C,H,W) -> the same shape."""
        out: Tensor = x + self.layers(x)
        return out


class Generator(nn.Module):
    """G or F: a face of one domain to one of the other, of the same size.

    Args:
        width: channels of the first layer (ngf).
        blocks: R: 9 from 256 px on, 6 below, in the paper's lineage.
        residual: the network draws what is added to its input, and begins with nothing: at the
            first step the output is the input. Ours, not the paper's.
        grey: the mean of the three channels in each of them, as near infrared has it; colour then
            has nowhere to hide for the way back. Ours.
    """

    def __init__(
        self, width: int = 64, blocks: int = 9, *, residual: bool = False, grey: bool = False
    ):
        super().__init__()
        n = width
        self.residual, self.grey = residual, grey
        self.last = nn.Conv2d(n, 3, 7)
        self.layers = nn.Sequential(
            nn.ReflectionPad2d(3),
            *_unit(nn.Conv2d(3, n, 7), n),
            *_unit(nn.Conv2d(n, 2 * n, 3, 2, 1), 2 * n),
            *_unit(nn.Conv2d(2 * n, 4 * n, 3, 2, 1), 4 * n),
            *(Block(4 * n) for _ in range(blocks)),
            *_unit(nn.ConvTranspose2d(4 * n, 2 * n, 3, 2, 1, output_padding=1), 2 * n),
            *_unit(nn.ConvTranspose2d(2 * n, n, 3, 2, 1, output_padding=1), n),
            nn.ReflectionPad2d(3),
        )
        self.apply(initialise)
        if residual:
            nn.init.zeros_(self.last.weight)

    def forward(self, images: Tensor) -> Tensor:
        """(B,3,S,S) RGB -1 to 1 -> the same; S is a multiple of 4."""
        drawn = torch.tanh(self.last(self.layers(images)))
        out = torch.clamp(images + drawn, -1, 1) if self.residual else drawn
        return grey_of(out) if self.grey else out


class Served(nn.Module):
    """A generator as it is exported: for crops of 112 px, whatever size it was trained at.

    Args:
        generator: G or F.
        side: that it was trained at, px.
        grey: three equal channels come out, whether or not the generator draws them.
        share: of what is drawn; the rest is the picture as it was. With less than all, a face that
            is merely grey loses less, and one in near infrared gains a little less.
    """

    def __init__(self, generator: Generator, side: int, *, grey: bool, share: float = 1.0):
        super().__init__()
        self.generator, self.side, self.grey, self.share = generator, side, grey, share

    def forward(self, image: Tensor) -> Tensor:
        """(B,3,112,112) RGB -1 to 1 -> the same, translated."""
        made: Tensor = resized(self.generator(resized(image, self.side)), image.shape[-1])
        if self.share < 1:
            made = torch.lerp(image, made, self.share)
        return grey_of(made) if self.grey else made


def load_generator(generator: Generator, path: Path) -> None:
    """Gives a generator the weights of an exported file.

    Raises:
        ValueError: the file holds no network, another one, or one of another width or depth.
    """
    try:
        take_stored(generator, read_stored(path), EXPORTED_AS)
    except LookupError as error:
        name = error.args[0]
        told = f"{path.name} is no generator of this width and depth: {name}"
        raise ValueError(told) from error


def grey_of(images: Tensor) -> Tensor:
    """(B,3,H,W) -> the mean of the channels in each."""
    return images.mean(dim=1, keepdim=True).expand(-1, 3, -1, -1)


def resized(images: Tensor, side: int) -> Tensor:
    """(B,3,H,W) -> (B,3,side,side), bilinear; nothing is done where the size is right."""
    if images.shape[-1] == side:
        return images
    return F.interpolate(images, (side, side), mode="bilinear", align_corners=False)
