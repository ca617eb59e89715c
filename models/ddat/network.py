"""DDAT's networks: U-Net generator, adaptor at its bottleneck, discriminator of patches.

The backbone "U-Net" and the place of the adaptor are the paper's, the widths are the spec's
(section 3). With `width=64` the generator has 10,892,995 parameters, the adaptor 426,497, the
discriminator 2,764,737.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

Norm = Literal["batch", "group"]

SLOPE = 0.2
"""Of the leaky ReLU, everywhere."""

GROUPS = 8
INIT_SPREAD = 0.02
"""Of a convolution's first weights (pix2pix)."""

BOTTLENECK_STEPS = 8
"""h has 8 x width channels."""


class Translated(NamedTuple):
    """What the generator gives.

    Attributes:
        image: (B,3,112,112) RGB, -1 to 1.
        bottleneck: (B,8*width,7,7), h.
    """

    image: Tensor
    bottleneck: Tensor


def initialise(module: nn.Module) -> None:
    """First weights as in pix2pix: normal around 0, norms around 1."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, INIT_SPREAD)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.BatchNorm2d | nn.GroupNorm):
        nn.init.normal_(module.weight, 1.0, INIT_SPREAD)
        nn.init.zeros_(module.bias)


def _norm(kind: Norm, channels: int) -> nn.Module:
    return nn.BatchNorm2d(channels) if kind == "batch" else nn.GroupNorm(GROUPS, channels)


def _down(c_in: int, c_out: int, norm: Norm) -> nn.Sequential:
    conv = nn.Conv2d(c_in, c_out, 4, 2, 1, bias=False)
    return nn.Sequential(conv, _norm(norm, c_out), nn.LeakyReLU(SLOPE))


def _same(channels: int, norm: Norm) -> nn.Sequential:
    conv = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
    return nn.Sequential(conv, _norm(norm, channels), nn.ReLU())


def _up(c_in: int, c_out: int, norm: Norm) -> nn.Sequential:
    conv = nn.ConvTranspose2d(c_in, c_out, 4, 2, 1, bias=False)
    return nn.Sequential(conv, _norm(norm, c_out), nn.ReLU())


class Generator(nn.Module):
    """G: an up-sampled face to a good one of the same size.

    Four halvings, because 112 allows no fifth. Source and target go through in one batch, so that
    batch norm has the statistics of both, as in serving.

    Args:
        width: channels of the first layer (ngf), a multiple of 8.
        norm: of the inner layers.
        skip_first: e1 is handed to d1; without it less of the input's grid comes through.
        residual: the network draws what is added to its input, and begins with nothing: at the
            first step the output is the input. Ours, not the paper's; meant for cubic input.
    """

    def __init__(
        self,
        width: int = 64,
        norm: Norm = "batch",
        *,
        skip_first: bool = True,
        residual: bool = False,
    ):
        super().__init__()
        n = width
        self.skip_first, self.residual = skip_first, residual
        self.e1 = nn.Sequential(nn.Conv2d(3, n, 4, 2, 1), nn.LeakyReLU(SLOPE))
        self.e2 = _down(n, 2 * n, norm)
        self.e3 = _down(2 * n, 4 * n, norm)
        self.e4 = _down(4 * n, 8 * n, norm)
        self.b1 = _same(8 * n, norm)
        self.b2 = _same(8 * n, norm)
        self.d4 = _up(8 * n, 4 * n, norm)
        self.d3 = _up(8 * n, 2 * n, norm)
        self.d2 = _up(4 * n, n, norm)
        self.d1 = nn.ConvTranspose2d(2 * n if skip_first else n, 3, 4, 2, 1)
        self.apply(initialise)
        if residual:
            nn.init.zeros_(self.d1.weight)

    def forward(self, images: Tensor) -> Translated:
        """(B,3,112,112) RGB -1 to 1 -> `Translated`."""
        e1 = self.e1(images)
        e2 = self.e2(e1)
        e3 = self.e3(e2)
        bottleneck = self.b2(self.b1(self.e4(e3)))
        d3 = self.d3(torch.cat([self.d4(bottleneck), e3], dim=1))
        d2 = self.d2(torch.cat([d3, e2], dim=1))
        drawn = torch.tanh(self.d1(torch.cat([d2, e1], dim=1) if self.skip_first else d2))
        image = torch.clamp(images + drawn, -1, 1) if self.residual else drawn
        return Translated(image, bottleneck)


class Adaptor(nn.Module):
    """A: from which domain a bottleneck comes.

    Args:
        channels: of the bottleneck.
    """

    def __init__(self, channels: int = 512):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, channels // 2, 1),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(channels // 2, channels // 4, 3, 2, 1),
            nn.LeakyReLU(SLOPE),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(channels // 4, 1),
        )
        self.apply(initialise)

    def forward(self, bottleneck: Tensor) -> Tensor:
        """(B,C,7,7) -> (B,1) logit of "source"."""
        out: Tensor = self.layers(bottleneck)
        return out


class Discriminator(nn.Module):
    """D: 70x70 patches, real or drawn (pix2pix: C64-C128-C256-C512-1).

    Args:
        width: channels of the first layer (ndf).
    """

    def __init__(self, width: int = 64):
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, width, 4, 2, 1), nn.LeakyReLU(SLOPE)]
        for c_in, c_out, stride in ((1, 2, 2), (2, 4, 2), (4, 8, 1)):
            layers += [
                nn.Conv2d(c_in * width, c_out * width, 4, stride, 1),
                # Each picture by itself: drawn and real ones may go through in any batch.
                nn.InstanceNorm2d(c_out * width),
                nn.LeakyReLU(SLOPE),
            ]
        layers.append(nn.Conv2d(8 * width, 1, 4, 1, 1))
        self.layers = nn.Sequential(*layers)
        self.apply(initialise)

    def forward(self, images: Tensor) -> Tensor:
        """(B,3,112,112) -> (B,1,12,12) logits of "real"."""
        out: Tensor = self.layers(images)
        return out


class _Reversal(torch.autograd.Function):
    """The identity forwards; the gradient backwards times a negative factor."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return -ctx.factor * grads[0], None


def reverse_gradient(x: Tensor, factor: float) -> Tensor:
    """X itself; what is learned in front of it goes the other way, `factor` times as strong."""
    out: Tensor = _Reversal.apply(x, factor)  # type: ignore[no-untyped-call]
    return out


def verifier_pictures(images: Tensor) -> Tensor:
    """(B,3,112,112) -1 to 1 -> the same in 0-255, as the embedder's network takes them."""
    return (images.float() + 1) * 127.5


def mirrored(images: Tensor) -> Tensor:
    """(B,3,H,W), left and right exchanged."""
    return torch.flip(images, dims=(3,))


def pooled(bottleneck: Tensor) -> Tensor:
    """(B,C,7,7) -> (B,C), for the probe of domains."""
    return F.adaptive_avg_pool2d(bottleneck.float(), 1).flatten(1)
