"""Diagnostics of the two subspaces: what of the pose can be read from either feature."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from models.poseface.losses import batch_correlation, subspace_overlap
from models.poseface.network import PoseFaceNet
from models.training.validation import probe_r2


def disentangling(
    network: PoseFaceNet, identity: Tensor, pose: Tensor, yaw: npt.NDArray[np.float32]
) -> dict[str, float]:
    """Diagnostics: yaw and |yaw| ("turn") read from either feature (R2), orthogonality residuals.

    A face and its mirror have nearly one identity feature, so that the sign of yaw is hardly in
    it; its size is.
    """
    with torch.no_grad():
        overlap = subspace_overlap(network.identity_head.weight, network.pose_head.weight)
    return {
        "yaw_r2_identity": probe_r2(F.normalize(identity.float()), yaw),
        "yaw_r2_pose": probe_r2(pose, yaw),
        "turn_r2_identity": probe_r2(F.normalize(identity.float()), np.abs(yaw)),
        "turn_r2_pose": probe_r2(pose, np.abs(yaw)),
        "orthogonality": float(overlap),
        "correlation": float(batch_correlation(identity, pose)),
    }
