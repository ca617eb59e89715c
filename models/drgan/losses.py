"""DR-GAN's losses, for one image and for several, in both published variants.

"cvpr17": softmax over N^d identities and "fake", softmax over yaw bins (equations 4 to 7 of the
CVPR paper). "tpami18": real or fake by a logit of its own, identity by AM-softmax, yaw by L2 (the
authors' code). All weights are 1.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from models.drgan.network import Judgement

REAL_TARGET = 0.999
AM_SCALE = 30.0
AM_MARGIN = 0.35


def identity_loss(judged: Judgement, labels: Tensor) -> Tensor:
    """-log D^d_y: (B,) identities from 0."""
    logits = judged.identity.float()
    if judged.real is not None:
        own = F.one_hot(labels, logits.shape[1]).to(logits.dtype)
        logits = AM_SCALE * (logits - AM_MARGIN * own)
    return F.cross_entropy(logits, labels)


def pose_loss(judged: Judgement, bins: Tensor, yaw: Tensor) -> Tensor:
    """-log D^p of the wanted bin; in "tpami18" the squared error of yaw in radians.

    Args:
        judged: of B images.
        bins: (B,) wanted yaw bin.
        yaw: (B,) the same in degrees.
    """
    if judged.real is None:
        return F.cross_entropy(judged.pose.float(), bins)
    return F.mse_loss(judged.pose.float().squeeze(1), yaw.float() * (math.pi / 180))


def real_loss(judged: Judgement, *, real: bool, target: float = 1.0) -> Tensor:
    """Binary cross-entropy of the real-or-fake logit; 0 in "cvpr17", which has none."""
    if judged.real is None:
        return judged.identity.new_zeros(())
    wanted = torch.full_like(judged.real, target if real else 0.0, dtype=torch.float32)
    return F.binary_cross_entropy_with_logits(judged.real.float(), wanted)


def fake_loss(judged: Judgement) -> Tensor:
    """What the discriminator loses on made faces: -log D^d of "fake", or the logit's. No pose."""
    if judged.real is not None:
        return real_loss(judged, real=False)
    fake = judged.identity.shape[1] - 1
    labels = torch.full((len(judged.identity),), fake, device=judged.identity.device)
    return F.cross_entropy(judged.identity.float(), labels)


def discriminator_loss(
    real: Judgement, fake: Judgement, labels: Tensor, bins: Tensor, yaw: Tensor
) -> dict[str, Tensor]:
    """V_D with its sign turned: identity and pose of real faces, "fake" for all made ones."""
    return {
        "d_identity": identity_loss(real, labels),
        "d_pose": pose_loss(real, bins, yaw),
        "d_fake": fake_loss(fake) + real_loss(real, real=True, target=REAL_TARGET),
    }


def generator_loss(
    judged: Judgement, labels: Tensor, bins: Tensor, yaw: Tensor
) -> dict[str, Tensor]:
    """V_G with its sign turned: a made face must keep the identity and show the wanted pose."""
    return {
        "g_identity": identity_loss(judged, labels) + real_loss(judged, real=True),
        "g_pose": pose_loss(judged, bins, yaw),
    }


@torch.no_grad()
def discriminator_accuracy(real: Judgement, fake: Judgement, labels: Tensor, bins: Tensor) -> float:
    """Mean of how often it is right about identity and pose of real faces, and about made ones.

    In "tpami18" pose is a number, not a class, and stays out.
    """
    right = [(real.identity.argmax(dim=1) == labels).float().mean()]
    if real.real is None or fake.real is None:
        right.append((real.pose.argmax(dim=1) == bins).float().mean())
        right.append((fake.identity.argmax(dim=1) == fake.identity.shape[1] - 1).float().mean())
    else:
        right.append(torch.cat([real.real > 0, fake.real < 0]).float().mean())
    return float(torch.stack(right).mean())


def keep_loss(feature: Tensor, target: Tensor) -> Tensor:
    """Half of 1 - cosine between (B,d) features and a teacher's (B,d)."""
    return 0.5 * (1 - F.cosine_similarity(feature.float(), target.float(), dim=1)).mean()
