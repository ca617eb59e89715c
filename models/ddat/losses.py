"""DDAT's losses (spec, section 4; the numbers are those of the paper's equations).

All logits and features are brought to fp32 first. Domains: source is paired with a good face of the
same person, target has no partner and no label.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

Gan = Literal["bce", "lsq"]
Reading = Literal["bce", "lsq"]

UNKNOWN = -1
"""Label of a face whose person is in no class."""

VAT_XI = 1e-2
"""Length of the probing step; 1e-6, the method's own, underflows in half precision."""

VAT_EPSILON = 0.03 * math.sqrt(3 * 112**2)
"""Length of the perturbation, in L2 of pictures from -1 to 1: 0.03 for each number of the crop."""

VAT_POWER_STEPS = 1


def gan_loss(logits: Tensor, kind: Gan, target: float) -> Tensor:
    """How far a discriminator's logits (B,1,h,w) are from `target`, 1 being real and 0 drawn."""
    wanted = torch.full_like(logits, target, dtype=torch.float32)
    if kind == "bce":
        return F.binary_cross_entropy_with_logits(logits.float(), wanted)
    return F.mse_loss(logits.float(), wanted)


def discriminator_loss(
    real: Tensor, source: Tensor, target: Tensor | None, kind: Gan, smooth: float = 0.0
) -> dict[str, Tensor]:
    """(5): real are good source faces alone, drawn are the translated faces of both domains.

    Args:
        real: logits of good source faces.
        source: of translated source faces.
        target: of translated target faces; None leaves them out.
        kind: cross-entropy or least squares.
        smooth: what real faces lack to 1, one-sided.
    """
    parts = {"d_real": gan_loss(real, kind, 1 - smooth)}
    if target is None:
        return {**parts, "d_source": gan_loss(source, kind, 0.0)}
    return {
        **parts,
        "d_source": 0.5 * gan_loss(source, kind, 0.0),
        "d_target": 0.5 * gan_loss(target, kind, 0.0),
    }


def gradient_penalty(logits: Tensor, images: Tensor) -> Tensor:
    """R1: half the squared gradient of the logits' sum at real pictures, mean over the batch."""
    (gradient,) = torch.autograd.grad(logits.float().sum(), images, create_graph=True)
    return 0.5 * gradient.float().square().sum(dim=(1, 2, 3)).mean()


def pixel_loss(made: Tensor, good: Tensor) -> Tensor:
    """(1): mean absolute difference of (B,3,H,W); the target has no partner and no such loss."""
    return (made.float() - good.float()).abs().mean()


def adaptor_loss(
    source: Tensor, target: Tensor, reading: Reading, alpha: float, beta: float
) -> Tensor:
    """(4): what the adaptor loses, in one of two readings of "weights of domain labels".

    Args:
        source: (B,1) logits of source bottlenecks.
        target: (B,1) of target bottlenecks.
        reading: "bce": cross-entropy, weighed by alpha on the source and beta on the target;
            "lsq": squared distance to the labels alpha (source) and beta (target).
        alpha: as said.
        beta: as said.
    """
    if reading == "bce":
        return alpha * F.softplus(-source.float()).mean() + beta * F.softplus(target.float()).mean()
    first, second = (source.float() - alpha).square(), (target.float() - beta).square()
    return first.mean() + second.mean()


def confusion_loss(
    source: Tensor, target: Tensor, reading: Reading, alpha: float, beta: float
) -> Tensor:
    """(4) with the domains' labels exchanged: what the encoder loses, where no gradient is turned.

    Arguments as in `adaptor_loss`.
    """
    if reading == "bce":
        return adaptor_loss(target, source, reading, beta, alpha)
    return adaptor_loss(target, source, reading, alpha, beta)


def identity_loss(features: Tensor, wanted: Tensor) -> Tensor:
    """(7): 1 - cosine of (B,d) features and wanted ones, through which no gradient goes."""
    return (1 - F.cosine_similarity(features.float(), wanted.detach().float(), dim=1)).mean()


def feature_loss(maps: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor:
    """Mean distance of a network's feature maps to wanted ones, in units of their size.

    Ours: the same faces at every stage of the frozen verifier, as a perceptual loss takes them.

    Args:
        maps: (B,C,H,W) of each stage.
        wanted: likewise; no gradient goes through them.
    """
    parts = []
    for made, good in zip(maps, wanted, strict=True):
        aim = good.detach().float()
        parts.append((made.float() - aim).abs().mean() / aim.abs().mean().clamp_min(1e-6))
    return torch.stack(parts).mean()


def classification_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """(8): cross-entropy of (B,C) logits; faces labelled `UNKNOWN` say nothing."""
    known = labels != UNKNOWN
    if not bool(known.any()):
        return logits.float().sum() * 0.0
    return F.cross_entropy(logits.float()[known], labels[known])


def centre_loss(features: Tensor, centres: Tensor, labels: Tensor) -> Tensor:
    """(8): half the squared distance of (B,d) unit features to their class's centre (C,d)."""
    known = labels != UNKNOWN
    if not bool(known.any()):
        return features.float().sum() * 0.0
    apart = features.float()[known] - centres[labels[known]]
    return 0.5 * apart.square().sum(dim=1).mean()


@torch.no_grad()
def moved_centres(centres: Tensor, features: Tensor, labels: Tensor, step: float) -> Tensor:
    """Centres after one step of Wen et al.'s rule, c -= step x sum(c - f) / (1 + n).

    Args:
        centres: (C,d).
        features: (B,d) unit features.
        labels: (B,) classes or `UNKNOWN`.
        step: the share, [0,1].
    """
    known = labels != UNKNOWN
    rows, values = labels[known], features.float()[known]
    pull = torch.zeros_like(centres).index_add_(0, rows, centres[rows] - values)
    count = torch.zeros(len(centres), device=centres.device)
    count.index_add_(0, rows, torch.ones_like(rows, dtype=count.dtype))
    return centres - step * pull / (1 + count)[:, None]


def divergence(logits: Tensor, others: Tensor) -> Tensor:
    """KL(p || q) of two (B,C) logits, mean over the batch; no gradient goes through p."""
    first = F.log_softmax(logits.detach().float(), dim=1)
    second = F.log_softmax(others.float(), dim=1)
    return (first.exp() * (first - second)).sum(dim=1).mean()


def vat_loss(
    classify: Callable[[Tensor], Tensor],
    images: Tensor,
    xi: float = VAT_XI,
    epsilon: float = VAT_EPSILON,
    power_steps: int = VAT_POWER_STEPS,
) -> Tensor:
    """(7): how much an answer changes under the small change of a picture that changes it most.

    Always in fp32; the caller switches autocast off. Draws from torch's generator.

    Args:
        classify: (B,3,112,112) -1 to 1 -> (B,C) logits.
        images: (B,3,112,112) translated target faces; no gradient goes into them.
        xi: length of the step that looks for the direction.
        epsilon: length of the change, L2 over a picture.
        power_steps: of the search.
    """
    images = images.detach().float()
    with torch.no_grad():
        answer = classify(images)
    direction = _unit(torch.randn_like(images))
    for _ in range(power_steps):
        change = (xi * direction).requires_grad_()
        (gradient,) = torch.autograd.grad(divergence(answer, classify(images + change)), change)
        direction = _unit(gradient)
    return divergence(answer, classify(images + epsilon * direction))


def _unit(images: Tensor) -> Tensor:
    """(B,...) each of length 1."""
    return F.normalize(images.flatten(1), dim=1).view_as(images)


def domain_ramp(progress: float) -> float:
    """DANN's ramp 2 / (1 + exp(-10 p)) - 1: 0 at the beginning, nearly 1 at the end.

    Args:
        progress: p, share of the run that is done, [0,1].
    """
    return 2 / (1 + math.exp(-10 * progress)) - 1
