"""CycleGAN's losses (spec, section 5) beside the adversarial and identity ones shared with DDAT.

Everything is brought to fp32 first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from models.ddat.losses import gan_loss

Perception = Literal["vgg16", "face"]

LUMA = (0.299, 0.587, 0.114)


def discriminator_loss(real: Tensor, drawn: Tensor) -> Tensor:
    """Half of both squared distances, real logits to 1 and drawn ones to 0."""
    return 0.5 * (gan_loss(real, "lsq", 1.0) + gan_loss(drawn, "lsq", 0.0))


def cycle_loss(back: Tensor, given: Tensor) -> Tensor:
    """Mean absolute difference of (B,3,S,S) after both ways to what it was before."""
    return (back.float() - given.float()).abs().mean()


def perceptual_loss(back: Sequence[Tensor], given: Sequence[Tensor], kind: Perception) -> Tensor:
    """Mean over the depths of the squared difference of maps, real against reconstructed.

    Args:
        back: maps of what came back; each (B,C,H,W).
        given: of what it was before; no gradient goes through them.
        kind: "vgg16" is plain. "face" divides each depth by the mean square of its own maps,
            because an embedder's have no common scale.
    """
    parts = []
    for mine, wanted in zip(back, given, strict=True):
        fixed = wanted.detach().float()
        error = (mine.float() - fixed).square().mean()
        parts.append(error / (fixed.square().mean() + 1e-6) if kind == "face" else error)
    return torch.stack(parts).mean()


def brightness_loss(made: Tensor, good: Tensor) -> Tensor:
    """Mean absolute difference of the luminance of (B,3,S,S)."""
    weights = torch.tensor(LUMA, device=made.device)[:, None, None]
    return ((made.float() - good.float()) * weights).sum(dim=1).abs().mean()
