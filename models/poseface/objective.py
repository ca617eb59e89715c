"""The total loss of one step: PAA + pose + orthogonality + feature keeping."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.poseface.landmarks import LandmarkAutoencoder, reconstruction_loss
from models.poseface.losses import (
    PoseAdaptiveArcFace,
    batch_correlation,
    keep_loss,
    pose_loss,
    pose_ratio,
    subspace_overlap,
)
from models.poseface.network import Features, PoseFaceNet
from models.poseface.options import TrainOptions


class Truth(NamedTuple):
    """What is known of a batch.

    Attributes:
        labels: (B,) class or -1.
        landmarks: (B,2K) normalised.
        euler: (B,3) degrees.
        target: (B,d) direction to keep to; None without a teacher.
        keep: (B,) weight of that.
        whole: (B,) False where a face is blended with another: neither person nor pose count.
    """

    labels: Tensor
    landmarks: Tensor
    euler: Tensor
    target: Tensor | None
    keep: Tensor
    whole: Tensor


class Objective(nn.Module):
    """Losses of a run, the classifier's weights included.

    Args:
        options: weights and margins.
        classes: C.
        identity_dim: d_id.
        autoencoder: frozen.
        centres: (C,d_id) start of the classifier; random directions when not given.
    """

    def __init__(
        self,
        options: TrainOptions,
        classes: int,
        identity_dim: int,
        autoencoder: LandmarkAutoencoder,
        centres: Tensor | None = None,
    ):
        super().__init__()
        self.options = options
        self.autoencoder = autoencoder
        self.classifier = PoseAdaptiveArcFace(
            max(classes, 1),
            identity_dim,
            options.scale,
            options.base_margin,
            options.margin_gain,
            options.fallback,
        )
        if centres is not None and centres.shape == self.classifier.weight.shape:
            with torch.no_grad():
                self.classifier.weight.copy_(centres)

    def forward(
        self, network: PoseFaceNet, features: Features, truth: Truth, progress: float, epoch: float
    ) -> dict[str, Tensor]:
        """Losses by name; "total" is their weighted sum.

        Args:
            network: for its heads.
            features: of the batch.
            truth: of the batch.
            progress: share of the run that is done, [0,1].
            epoch: passes done, for the easy margin of the first ones.
        """
        o = self.options
        ramp = min(1.0, progress / o.ramp_share) if o.ramp_share else 1.0
        self.classifier.fallback = "easy" if epoch < o.easy_epochs else o.fallback
        ratio = pose_ratio(truth.euler, o.full_pose, o.ramp)
        code = self.autoencoder.encode(truth.landmarks.float())
        labels = torch.where(truth.whole, truth.labels, -1)
        losses = {
            "paa": self.classifier(features.identity, labels, ratio),
            "pose": pose_loss(features.pose[truth.whole], code[truth.whole]),
            "orth": subspace_overlap(network.identity_head.weight, network.pose_head.weight)
            if o.orth == "subspace"
            else batch_correlation(features.identity, features.pose),
        }
        total = (
            o.identity_weight * losses["paa"]
            + ramp * o.pose_weight * losses["pose"]
            + ramp * o.orth_weight * losses["orth"]
        )
        if o.decode_weight and bool(truth.whole.any()):
            rebuilt = self.autoencoder.decoder(features.pose[truth.whole].float())
            losses["decode"] = reconstruction_loss(truth.landmarks[truth.whole].float(), rebuilt)
            total = total + ramp * o.decode_weight * losses["decode"]
        if truth.target is not None and o.keep_weight:
            losses["keep"] = keep_loss(features.identity, truth.target, truth.keep)
            total = total + o.keep_weight * losses["keep"]
        losses["total"] = total
        return losses
