"""V: a released embedder, frozen but for its last stages, with a classifier and centres behind it.

The frozen trunk is the teacher too. Teacher and verifier share the trunk's first stages, so that
both features of a picture cost little more than one.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from models.backbones.sface import INPUT_MEAN, INPUT_SCALE, SFaceBackbone, load_trunk
from models.ddat.losses import moved_centres
from models.ddat.network import verifier_pictures

FROZEN = "trunk."


class Seen(NamedTuple):
    """What V sees in B pictures.

    Attributes:
        teacher: (B,d) features of the frozen trunk, fp32, unit length.
        own: (B,d) of the verifier, likewise.
        maps: what each stage of the frozen trunk gives, (B,C,H,W), the first stage's first.
    """

    teacher: Tensor
    own: Tensor
    maps: tuple[Tensor, ...] = ()

    def parts(self, count: int) -> list[Seen]:
        """Blocks of `count` pictures each."""
        cut = [torch.split(x, count) for x in (self.teacher, self.own, *self.maps)]
        return [Seen(teacher, own, tuple(maps)) for teacher, own, *maps in zip(*cut, strict=True)]


class Verifier(nn.Module):
    """Features, logits, centres.

    Args:
        start: ONNX file of SFace or PoseFace.
        centres: (C,d) unit directions of the source's people: first weights and first centres.
        stages: last stages of the trunk that are learned, with the dense layer; for 0 the verifier
            is the teacher, and the classifier alone is learned.
        scale: on the cosines.
    """

    centres: Tensor

    def __init__(self, start: Path, centres: Tensor, stages: int, scale: float):
        super().__init__()
        self.scale = scale
        self.trunk: SFaceBackbone = load_trunk(start)
        self.trunk.requires_grad_(requires_grad=False)
        every = self.trunk.stages()
        if not 0 <= stages < len(every):
            raise ValueError(f"of {len(every)} stages {stages} cannot be learned")
        self.shared = len(every) - stages
        learned = [_chain(stage) for stage in every[self.shared :]]
        self.late = copy.deepcopy(nn.ModuleList(learned)).requires_grad_()
        self.dense = copy.deepcopy(self.trunk.dense).requires_grad_() if stages else None
        self.classes = nn.Parameter(centres.clone())
        self.register_buffer("centres", centres.clone())

    def forward(self, images: Tensor) -> Seen:
        """(B,3,112,112) -1 to 1 -> `Seen`."""
        x = (verifier_pictures(images) - INPUT_MEAN) * INPUT_SCALE
        maps = []
        for number, stage in enumerate(self.trunk.stages(), start=1):
            x = _chain(stage)(x)
            maps.append(x)
            if number == self.shared:
                late = x
        teacher = F.normalize(self.trunk.dense(x.flatten(1)).float())
        if self.dense is None:
            return Seen(teacher, teacher, tuple(maps))
        for stage in self.late:
            late = stage(late)
        own = F.normalize(self.dense(late.flatten(1)).float())
        return Seen(teacher, own, tuple(maps))

    def logits(self, features: Tensor) -> Tensor:
        """(B,d) unit features -> (B,C): scaled cosines to each class."""
        return self.scale * features @ F.normalize(self.classes).T

    def classify(self, images: Tensor) -> Tensor:
        """(B,3,112,112) -1 to 1 -> (B,C) logits."""
        seen: Seen = self(images)
        return self.logits(seen.own)

    @torch.no_grad()
    def move_centres(self, features: Tensor, labels: Tensor, step: float) -> None:
        """One step of the centres, which no optimiser sees and no weight decay pulls."""
        self.centres.copy_(moved_centres(self.centres, features, labels, step))

    def learned(self) -> list[nn.Parameter]:
        """What the verifier's optimiser moves."""
        return [p for name, p in self.named_parameters() if not name.startswith(FROZEN)]

    def own_state(self) -> dict[str, Any]:
        """All but the frozen trunk, which its file holds."""
        return {k: v for k, v in self.state_dict().items() if not k.startswith(FROZEN)}

    def load_own_state(self, state: dict[str, Any]) -> None:
        """Takes back what `own_state` gave."""
        frozen = {k: v for k, v in self.state_dict().items() if k.startswith(FROZEN)}
        self.load_state_dict({**frozen, **state})

    @torch.no_grad()
    def embedder(self) -> SFaceBackbone:
        """The verifier as a plain embedder: (B,3,112,112) RGB 0-255 -> (B,d)."""
        plain = copy.deepcopy(self.trunk)
        for target, source in zip(plain.stages()[self.shared :], self.late, strict=True):
            _chain(target).load_state_dict(source.state_dict())
        if self.dense is not None:
            plain.dense.load_state_dict(self.dense.state_dict())
        return plain


def _chain(stage: nn.Module) -> nn.Module:
    """A stage as one module to be called: the trunk hands its pairs over as a list."""
    return nn.Sequential(*stage) if isinstance(stage, nn.ModuleList) else stage
