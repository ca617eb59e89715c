"""Frozen networks that look at faces: four depths for the perceptual loss, and who it is.

The paper's depths are outputs 4, 9, 16, 23 of VGG16's layers, counted from 1: the rectified ends of
its first four groups. Where its weights are not at hand, the frozen face embedder gives four maps
of the same sizes and numbers of channels; a run's record says which it was, "perc=vgg16" or
"perc=face".
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from models.backbones.sface import INPUT_MEAN, INPUT_SCALE, SFaceBackbone
from models.backbones.trunk import INPUT_SIDE
from models.ddat.network import verifier_pictures
from models.nir_cyclegan.network import resized

VGG_TAPS = (4, 9, 16, 23)
"""Counted from 1; ends of relu1_2, relu2_2, relu3_3, relu4_3."""

VGG_WIDTHS = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512)
"""Channels of the convolutions up to the last depth; 0 is a pooling."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_SPREAD = (0.229, 0.224, 0.225)

FACE_TAPS = (2, 4, 6, 12)
"""Stages of the embedder, counted from 1, after which 64, 128, 256 and 512 channels stand at full,
half, quarter and eighth of the size, as in VGG16."""


class Seen(NamedTuple):
    """What the face embedder sees.

    Attributes:
        maps: what each stage gives, fine to coarse.
        taps: the four of them whose sizes are VGG16's.
        feature: (B,d) unit features, fp32.
    """

    maps: tuple[Tensor, ...]
    taps: tuple[Tensor, ...]
    feature: Tensor


class FaceEyes(nn.Module):
    """The frozen face embedder with its inner maps.

    Args:
        trunk: SFace or PoseFace.
    """

    def __init__(self, trunk: SFaceBackbone):
        super().__init__()
        self.trunk = trunk.requires_grad_(requires_grad=False).eval()

    def forward(self, images: Tensor) -> Seen:
        """(B,3,S,S) RGB -1 to 1 -> `Seen`; another size than the embedder's is scaled."""
        pictures = verifier_pictures(resized(images.float(), INPUT_SIDE))
        x = (pictures - INPUT_MEAN) * INPUT_SCALE
        maps = []
        for stage in self.trunk.stages():
            for layer in stage if isinstance(stage, nn.ModuleList) else [stage]:
                x = layer(x)
            maps.append(x)
        feature = F.normalize(self.trunk.dense(x.flatten(1)).float())
        return Seen(tuple(maps), tuple(maps[number - 1] for number in FACE_TAPS), feature)


class Vgg16(nn.Module):
    """VGG16 up to the last depth, frozen; 7,635,264 parameters."""

    mean: Tensor
    spread: Tensor

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for width in VGG_WIDTHS:
            if width:
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
                channels = width
            else:
                layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN)[:, None, None])
        self.register_buffer("spread", torch.tensor(IMAGENET_SPREAD)[:, None, None])
        self.requires_grad_(requires_grad=False).eval()

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """(B,3,S,S) RGB -1 to 1 -> four maps, fine to coarse."""
        x = ((images.float() + 1) / 2 - self.mean) / self.spread
        taps = []
        for number, layer in enumerate(self.features, 1):
            x = layer(x)
            if number in VGG_TAPS:
                taps.append(x)
        return tuple(taps)


def load_vgg16(path: Path) -> Vgg16:
    """VGG16 from a torch state-dict file whose layers are called "features.0.weight" and so on.

    Layers beyond the last depth and the classifier are not read.

    Raises:
        ValueError: the file does not hold VGG16's layers.
    """
    network = Vgg16()
    state = torch.load(path, map_location="cpu", weights_only=True)
    wanted = {name for name, _ in network.named_parameters()}
    try:
        chosen = {name: state[name] for name in wanted}
        network.load_state_dict(chosen, strict=False)
    except (KeyError, RuntimeError) as error:
        raise ValueError(f"{path.name} does not hold VGG16's layers: {error}") from error
    return network
