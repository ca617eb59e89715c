"""PoseFace: one trunk feature, two linear heads on orthogonal subspaces of it.

The identity head answers who, the pose head how the face is turned. Only the first is served, and
it disappears into the trunk's dense layer, so that a served model costs what its backbone costs.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from models.backbones.foamliu import FOAMLIU_DIM, FoamliuBackbone, load_foamliu
from models.backbones.iresnet import IResNet
from models.backbones.mobilefacenet import MobileFaceNet
from models.backbones.sface import SFACE_DIM, SFaceBackbone, load_sface
from models.backbones.trunk import Trunk

Backbone = Literal["sface", "foamliu", "mobilefacenet", "iresnet18", "iresnet50"]

IDENTITY_DIM: dict[Backbone, int] = {
    "sface": SFACE_DIM,
    "foamliu": FOAMLIU_DIM,
    "mobilefacenet": 512,
    "iresnet18": 512,
    "iresnet50": 512,
}
"""Default width of the identity feature; the file's own for layers from a file, else the spec's."""


class Features(NamedTuple):
    """What the network says of a batch: (B,d_id), (B,d_pose), (B,d_f); none is L2-normalised."""

    identity: Tensor
    pose: Tensor
    trunk: Tensor


class PoseFaceNet(nn.Module):
    """A trunk with an identity head and a pose head, both linear and without bias.

    The heads start as two blocks of the unit matrix: exactly orthogonal, and the identity feature
    is the trunk's first `identity_dim` channels untouched.

    Args:
        trunk: any backbone; its width is the trunk feature's d_f.
        identity_dim: d_id.
        pose_dim: d_pose.

    Raises:
        ValueError: d_f < d_id + d_pose. Two full-rank heads could then not be orthogonal, and the
            penalty would be met by losing rank.
    """

    def __init__(self, trunk: Trunk, identity_dim: int, pose_dim: int):
        super().__init__()
        if trunk.dim < identity_dim + pose_dim:
            raise ValueError(
                f"a trunk feature of {trunk.dim} is too narrow for orthogonal heads of "
                f"{identity_dim} and {pose_dim}"
            )
        self.trunk = trunk
        self.identity_head = nn.Linear(trunk.dim, identity_dim, bias=False)
        self.pose_head = nn.Linear(trunk.dim, pose_dim, bias=False)
        unit = torch.eye(trunk.dim)
        with torch.no_grad():
            self.identity_head.weight.copy_(unit[:identity_dim])
            self.pose_head.weight.copy_(unit[identity_dim : identity_dim + pose_dim])

    def forward(self, images: Tensor) -> Features:
        """(B,3,112,112) RGB 0-255 -> `Features`."""
        trunk = self.trunk(images)
        return Features(self.identity_head(trunk), self.pose_head(trunk), trunk)


def build_trunk(backbone: Backbone, dim: int, dropout: float = 0.0) -> Trunk:
    """A backbone with random weights and a feature of `dim` channels."""
    match backbone:
        case "sface":
            return SFaceBackbone(dim)
        case "foamliu":
            return FoamliuBackbone(dim)
        case "mobilefacenet":
            return MobileFaceNet(dim)
        case "iresnet18":
            return IResNet(dim, depth=18, dropout=dropout)
        case "iresnet50":
            return IResNet(dim, depth=50, dropout=dropout)


def build_network(
    backbone: Backbone,
    pose_dim: int,
    identity_dim: int | None = None,
    start: Path | None = None,
    dropout: float = 0.0,
) -> PoseFaceNet:
    """A PoseFace network by the rank rule d_f = d_id + d_pose.

    Args:
        backbone: which layers.
        pose_dim: d_pose.
        identity_dim: d_id; the backbone's default when not given.
        start: ONNX file from whose weights the layers start: SFace's or foamliu's, each for the
            backbone of its name. The identity feature then equals the file's output before the
            first step. The added channels start at zero: an untrained pose head must not pull at
            a trained backbone.
        dropout: before the dense layer, for the IResNets.
    """
    d_id = identity_dim or IDENTITY_DIM[backbone]
    trunk = build_trunk(backbone, d_id + pose_dim, dropout)
    if start is not None:
        _load(trunk, start, d_id)
    return PoseFaceNet(trunk, d_id, pose_dim)


def _load(trunk: Trunk, start: Path, d_id: int) -> None:
    """Fills a trunk whose first `d_id` channels are the identity feature; the others give 0."""
    match trunk:
        case SFaceBackbone() if d_id >= SFACE_DIM:
            load_sface(trunk, start)
        case FoamliuBackbone() if d_id >= FOAMLIU_DIM:
            load_foamliu(trunk, start)
        case _:
            raise ValueError("weights fit only the layers they are of, 128 wide or wider")
    with torch.no_grad():
        trunk.dense.weight[d_id:].zero_()


class ServingNetwork(nn.Module):
    """What is exported: (B,3,112,112) RGB 0-255 -> (B,d_id), to be L2-normalised by the caller."""

    def __init__(self, trunk: Trunk):
        super().__init__()
        self.trunk = trunk

    def forward(self, data: Tensor) -> Tensor:
        """(B,3,112,112) RGB 0-255 -> (B,d_id)."""
        out: Tensor = self.trunk(data)
        return out


def serving_network(network: PoseFaceNet) -> ServingNetwork:
    """A copy with identity head and batch norms folded away, without pose head and classifier."""
    trunk = copy.deepcopy(network.trunk).eval()
    trunk.fold()
    trunk.fold_linear(network.identity_head.weight.detach())
    return ServingNetwork(trunk).eval()
