"""A pool of drawn pictures, so that a discriminator does not forget what was drawn before."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

POOL = 50
"""Pictures (Shrivastava et al. 2017, CycleGAN)."""


class ImagePool:
    """The last pictures drawn, some of them older than others.

    Args:
        size: pictures; with 0 every picture is handed through.
    """

    def __init__(self, size: int = POOL):
        self.size = size
        self.kept: list[Tensor] = []

    def query(self, drawn: Tensor, rng: np.random.Generator) -> Tensor:
        """What the discriminator is shown in place of the pictures just drawn.

        Until the pool is full every picture is kept and shown. Then each is shown itself, or takes
        the place of an older one that is shown, as a coin falls.

        Args:
            drawn: (B,3,S,S), without gradient.
            rng: source of chance.

        Returns:
            (B,3,S,S).
        """
        if not self.size:
            return drawn
        shown = []
        for picture in drawn:
            if len(self.kept) < self.size:
                self.kept.append(picture.clone())
                shown.append(picture)
            elif rng.random() < 0.5:
                place = int(rng.integers(self.size))
                shown.append(self.kept[place])
                self.kept[place] = picture.clone()
            else:
                shown.append(picture)
        return torch.stack(shown)

    def state(self) -> list[Tensor]:
        """The pictures, for a checkpoint."""
        return self.kept

    def restore(self, kept: list[Tensor], device: torch.device) -> None:
        """Takes back what `state` gave."""
        self.kept = [picture.to(device) for picture in kept]
