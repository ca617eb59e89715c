"""PoseFace's losses: pose-adaptive ArcFace, pose supervision, orthogonality, feature keeping.

Angles of pose are degrees; margins and angles between vectors are radians. Every logit is computed
in fp32 whatever the surrounding autocast says.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

COS_LIMIT = 1 - 1e-7
RADICAND_FLOOR = 1e-12
"""sqrt(1 - cos^2) has an infinite gradient at |cos| = 1; these two keep it finite."""

MAX_MARGIN = 0.7
"""Above this the target logit rises with the angle over a fifth of its range."""

Ramp = Literal["linear", "sine"]
Fallback = Literal["hard", "easy"]
Orthogonality = Literal["subspace", "batchcorr"]


def pose_ratio(euler: Tensor, full_at: float = 60.0, ramp: Ramp = "linear") -> Tensor:
    """How far a face is turned: 0 frontal, 1 at `full_at` degrees and beyond.

    Args:
        euler: (B,3) pitch, yaw, roll in degrees; a row with NaN means "pose unknown" and gives 0.
            Roll is ignored: alignment takes it out.
        full_at: the angle that counts as full profile, degrees.
        ramp: `linear` in the angle, or `sine`: sin^2 of a quarter turn times the linear ratio.

    Returns:
        (B,) in [0,1], fp32.
    """
    angle = euler[:, :2].float().abs().amax(dim=1).nan_to_num(nan=0.0)
    ratio = (angle / full_at).clamp(max=1.0)
    return ratio if ramp == "linear" else torch.sin(ratio * (math.pi / 2)) ** 2


def margin_cosine(cos: Tensor, margin: Tensor, fallback: Fallback = "hard") -> Tensor:
    """cos(theta + m) for each sample's own margin, with a fallback past its turning point.

    Beyond theta = pi - m the plain formula would reward a larger angle. `hard` continues there
    with cos(theta) - m sin(pi - m), which keeps falling; `easy` applies the margin only where
    cos(theta) > 0, which suits the first epochs from random weights.

    Args:
        cos: (B,) cosine to the own class centre.
        margin: (B,) radians.
        fallback: see above.
    """
    cos = cos.float().clamp(-COS_LIMIT, COS_LIMIT)
    sin = (1 - cos * cos).clamp(min=RADICAND_FLOOR).sqrt()
    margin = margin.float()
    shifted = cos * margin.cos() - sin * margin.sin()
    if fallback == "easy":
        return torch.where(cos > 0, shifted, cos)
    turning = torch.cos(math.pi - margin)
    return torch.where(cos > turning, shifted, cos - margin * torch.sin(math.pi - margin))


class PoseAdaptiveArcFace(nn.Module):
    """ArcFace whose margin grows with the pose of each sample: m_i = m_b + r_i * delta_m.

    Args:
        classes: number of people C.
        dim: width of the identity feature.
        scale: s, the factor on the cosines.
        base_margin: m_b, radians.
        margin_gain: delta_m, radians; 0 gives ArcFace.
        fallback: see `margin_cosine`.

    Raises:
        ValueError: the largest margin exceeds 0.7 rad or one is negative.
    """

    def __init__(
        self,
        classes: int,
        dim: int,
        scale: float = 30.0,
        base_margin: float = 0.30,
        margin_gain: float = 0.15,
        fallback: Fallback = "hard",
    ):
        super().__init__()
        if base_margin < 0 or margin_gain < 0 or base_margin + margin_gain > MAX_MARGIN:
            raise ValueError(f"margins must stay within 0 to {MAX_MARGIN} rad")
        self.scale = scale
        self.base_margin = base_margin
        self.margin_gain = margin_gain
        self.fallback: Fallback = fallback
        self.weight = nn.Parameter(F.normalize(torch.randn(classes, dim)))

    def margins(self, ratio: Tensor) -> Tensor:
        """(B,) pose ratios -> (B,) margins in radians."""
        return self.base_margin + ratio.float() * self.margin_gain

    def logits(self, features: Tensor, labels: Tensor, ratio: Tensor) -> Tensor:
        """(B,dim), (B,), (B,) -> (B,C) scaled cosines with the margin on the own class."""
        with torch.autocast(features.device.type, enabled=False):
            cosines = F.normalize(features.float()) @ F.normalize(self.weight.float()).T
            own = cosines.gather(1, labels[:, None]).squeeze(1)
            target = margin_cosine(own, self.margins(ratio), self.fallback)
            return self.scale * cosines.scatter(1, labels[:, None], target[:, None])

    def forward(self, features: Tensor, labels: Tensor, ratio: Tensor) -> Tensor:
        """Mean loss over the samples whose label is not -1; 0 when there is none."""
        known = labels >= 0
        if not bool(known.any()):
            return features.sum() * 0.0
        logits = self.logits(features[known], labels[known], ratio[known])
        return F.cross_entropy(logits, labels[known])


def pose_loss(pose: Tensor, code: Tensor) -> Tensor:
    """Squared distance per sample, averaged: (B,d_pose) against the frozen code (B,d_pose)."""
    if not len(pose):
        return pose.sum()
    return (pose.float() - code.detach().float()).square().sum(dim=1).mean()


def subspace_overlap(identity: Tensor, pose: Tensor) -> Tensor:
    """Squared Frobenius norm of the product of the heads' unit rows, over the pose width.

    Rows are normalised: otherwise shrinking the weights would be the easiest way to zero.

    Args:
        identity: (d_id, d_f) weight.
        pose: (d_pose, d_f) weight.
    """
    product = F.normalize(identity.float()) @ F.normalize(pose.float()).T
    return product.square().sum() / len(pose)


def batch_correlation(identity: Tensor, pose: Tensor) -> Tensor:
    """Mean squared correlation, over a batch, of every identity with every pose channel."""

    def standardise(x: Tensor) -> Tensor:
        x = x.float() - x.float().mean(dim=0)
        return x / x.square().mean(dim=0).clamp(min=RADICAND_FLOOR).sqrt()

    correlation = standardise(identity).T @ standardise(pose) / len(identity)
    return correlation.square().mean()


def keep_loss(identity: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean of 1 - cosine between the identity feature and its target.

    Args:
        identity: (B,d).
        target: (B,d), any length; taken as a constant.
        weight: (B,), not negative; a batch of zeros gives 0.
    """
    with torch.autocast(identity.device.type, enabled=False):
        distance = 1 - F.cosine_similarity(identity.float(), target.detach().float(), dim=1)
        total = weight.sum().clamp(min=RADICAND_FLOOR)
        return (distance * weight).sum() / total
