"""What a generator is worth on held-out people, one face of each pair degraded.

The teacher is the verifier. The other face of a pair is always good. Degradation is simulated.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from models.ddat.degradations import (
    AreaDomain,
    Domain,
    DomainName,
    SourceDomain,
    TargetDomain,
    Up,
    eye_distance,
    levels,
    network_input,
    up_sample,
)
from models.ddat.figures import Measured, MethodFigures, Point
from models.ddat.measure import frechet_distance, probe_accuracy, psnr, ssim
from models.ddat.network import Translated, pooled
from models.training.faces import Faces
from models.training.held_out import BATCH, AlteredPairs, embed
from models.training.validation import Validation

Bytes = npt.NDArray[np.uint8]

PROBE_SIDE = 28
"""Where the domains are to be told apart: the spec's size."""

DOMAINS: dict[DomainName, Domain] = {
    "area": AreaDomain(),
    "source": SourceDomain(),
    "stored": SourceDomain(stored=1.0, read=2.5, quality_from=65, quality_to=95),
    "target": TargetDomain(),
}


class Examination(AlteredPairs):
    """The held-out faces, prepared once; what does not depend on a generator is kept.

    Args:
        faces: the data.
        validation: held-out pairs with the teacher's features.
        teacher: (B,3,112,112) RGB 0-255 -> (B,d), in evaluation mode.
        limit: first people with so many faces alone; 0 is all.
    """

    def __init__(self, faces: Faces, validation: Validation, teacher: nn.Module, limit: int = 0):
        super().__init__(faces, validation, teacher, limit)
        self.known: dict[tuple[DomainName, int], dict[str, MethodFigures]] = {}
        self.base: dict[tuple[DomainName, int], Tensor] = {}

    def of(
        self,
        generator: nn.Module,
        device: torch.device,
        upsampling: Up,
        domains: Sequence[DomainName],
        sides: Sequence[int],
        resamples: int = 0,
    ) -> Measured:
        """Measures a generator in evaluation mode.

        Args:
            generator: (B,3,112,112) -1 to 1 -> `Translated`.
            device: where it and the teacher are.
            upsampling: of its input.
            domains: how faces are degraded.
            sides: pixels that are left, each in each domain.
            resamples: of the gains' intervals; 0 for none.
        """
        points = [
            self._point(generator, device, upsampling, domain, side, resamples)
            for domain in domains
            for side in sides
        ]
        hidden = [
            translate(generator, self.degraded(domain, PROBE_SIDE), upsampling, device)[1]
            for domain in ("source", "target")
        ]
        return Measured(
            clean=self.clean(),
            points=points,
            probe_accuracy=probe_accuracy(hidden[0].numpy(), hidden[1].numpy()),
            faces=len(self.rows),
            people=len(set(self.people.tolist())),
        )

    def degraded(self, domain: DomainName, side: int) -> list[Bytes]:
        """The held-out faces with (side,side,3) left, the same at every call."""
        return [
            DOMAINS[domain].degrade(crop, side, np.random.default_rng((int(row), side)))
            for crop, row in zip(self.crops, self.rows, strict=True)
        ]

    def _point(
        self,
        generator: nn.Module,
        device: torch.device,
        upsampling: Up,
        domain: DomainName,
        side: int,
        resamples: int,
    ) -> Point:
        small = self.degraded(domain, side)
        key = (domain, side)
        if key not in self.known:
            figures = {}
            for kernel in ("nearest", "bicubic"):
                large = np.stack([up_sample(face, kernel) for face in small])
                self.base[key] = embed(self.verifier, large, device)
                figures[kernel] = self._figures(domain, large, self.base[key])
            self.known[key] = figures
        made, _ = translate(generator, small, upsampling, device)
        features = embed(self.verifier, made, device)
        methods = {**self.known[key], "enhanced": self._figures(domain, made, features)}
        gains = self.gains(self.base[key], features, resamples) if resamples else []
        return Point(domain, side, eye_distance(side), methods, gains)

    def _figures(self, domain: DomainName, pictures: Bytes, features: Tensor) -> MethodFigures:
        paired = domain == "source"
        good = self.good
        return MethodFigures(
            self.verify(features),
            float((features * good).sum(dim=1).mean()),
            frechet_distance(good.numpy(), features.numpy()),
            psnr(pictures, self.crops) if paired else float("nan"),
            ssim(pictures, self.crops) if paired else float("nan"),
            self.false_matches(features),
        )


@torch.no_grad()
def translate(
    generator: nn.Module, small: Sequence[Bytes], upsampling: Up, device: torch.device
) -> tuple[Bytes, Tensor]:
    """Faces of few pixels -> (N,112,112,3) uint8 and the pooled bottlenecks (N,C), on the CPU."""
    pictures, hidden = [], []
    for start in range(0, len(small), BATCH):
        images = np.stack([network_input(f, upsampling) for f in small[start : start + BATCH]])
        made: Translated = generator(torch.from_numpy(images).to(device))
        pictures.append(levels(made.image.float().cpu().numpy()))
        hidden.append(pooled(made.bottleneck).cpu())
    return np.concatenate(pictures), torch.cat(hidden)
