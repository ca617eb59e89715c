"""An encoder on the layers of a trained face network, for machines that cannot train Table 1's.

SFace's layers (SFace or PoseFace, see `models.backbones.sface`) see the same 96x96 crop, enlarged
to the 112x112 that they were trained for. Their 128-d feature becomes the first 128 of the 320
channels; what the pooled map adds to all channels, and the fusion weight, are learned.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from models.backbones.sface import MAP_CHANNELS, SFACE_DIM, SFaceBackbone, load_trunk
from models.backbones.trunk import INPUT_SIDE
from models.drgan.network import FEATURE_DIM, Encoded


class PretrainedEncoder(nn.Module):
    """G_enc with another trunk: same input, same output as `network.Encoder`.

    At the start the feature is the trunk's own, with zeros behind it, so that its cosines are the
    trunk's, and every image weighs 0.5.

    Args:
        start: ONNX file of SFace or PoseFace; None for layers that a checkpoint will fill.
        freeze: leave the trunk as it is.
    """

    def __init__(self, start: Path | None, *, freeze: bool):
        super().__init__()
        if start is not None:
            trunk = load_trunk(start)
        else:
            trunk = SFaceBackbone()
            trunk.eval()
            trunk.fold()
        self.trunk = trunk
        self.freeze = freeze
        self.trunk.requires_grad_(requires_grad=not freeze)
        self.norm = nn.BatchNorm1d(MAP_CHANNELS, affine=False)
        self.feature = nn.Linear(SFACE_DIM + MAP_CHANNELS, FEATURE_DIM, bias=False)
        self.weight = nn.Linear(SFACE_DIM + MAP_CHANNELS, 1)
        for layer in (self.feature, self.weight):
            nn.init.zeros_(layer.weight)
        nn.init.zeros_(self.weight.bias)
        with torch.no_grad():
            self.feature.weight[:SFACE_DIM, :SFACE_DIM] = torch.eye(SFACE_DIM)

    def forward(self, images: Tensor) -> Encoded:
        """(B,3,96,96) RGB -1 to 1 -> `Encoded`."""
        large = F.interpolate(images, size=(INPUT_SIDE, INPUT_SIDE), mode="bilinear")
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.freeze):
            maps = self.trunk.feature_map((large + 1) * 127.5)
            identity = self.trunk.dense_norm(self.trunk.dense(maps.flatten(1)))
            pooled = maps.mean(dim=(2, 3))
        both = torch.cat([identity.float(), self.norm(pooled.float())], dim=1)
        return Encoded(self.feature(both), torch.sigmoid(self.weight(both)))
