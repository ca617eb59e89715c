"""What a generator is worth on held-out people, one face of each pair degraded.

The teacher is the verifier. The other face of a pair is always good. Degradation is simulated.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

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
from models.ddat.measure import (
    Gain,
    frechet_distance,
    probe_accuracy,
    psnr,
    ssim,
    verification_gains,
)
from models.ddat.network import Translated, pooled
from models.training.faces import BORDER, CROP_SIDE, Faces, Ints
from models.training.validation import MAX_IMPOSTORS, Validation, Verification, verify

Bytes = npt.NDArray[np.uint8]

PROBE_SIDE = 28
"""Where the domains are to be told apart: the spec's size."""

DOMAINS: dict[DomainName, Domain] = {
    "area": AreaDomain(),
    "source": SourceDomain(),
    "stored": SourceDomain(stored=1.0, read=2.5, quality_from=65, quality_to=95),
    "target": TargetDomain(),
}
BATCH = 64
CENTRAL = slice(BORDER, CROP_SIDE - BORDER)


class Examination:
    """The held-out faces, prepared once; what does not depend on a generator is kept.

    Args:
        faces: the data.
        validation: held-out pairs with the teacher's features.
        teacher: (B,3,112,112) RGB 0-255 -> (B,d), in evaluation mode.
        limit: first people with so many faces alone; 0 is all.
    """

    def __init__(self, faces: Faces, validation: Validation, teacher: nn.Module, limit: int = 0):
        kept = _first_people(np.array(faces.people)[validation.rows], limit)
        rows: Ints = validation.rows[kept]
        self.validation = Validation(faces, rows, validation.teacher[torch.from_numpy(kept)])
        self.people = np.array(faces.people)[rows]
        self.rows, self.teacher = rows, teacher
        self.crops = np.ascontiguousarray(faces.crops[rows][:, CENTRAL, CENTRAL])
        first, second = np.divmod(self.validation.bins["all"], len(rows))
        # Either face of a pair may be the degraded one.
        self.first = np.concatenate([first, second])
        self.second = np.concatenate([second, first])
        self.same = np.tile(self.validation.same[self.validation.bins["all"]], 2)
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

    def clean(self) -> Verification:
        """Both faces of a pair good."""
        return self._verify(self.validation.teacher)

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
                self.base[key] = embed(self.teacher, large, device)
                figures[kernel] = self._figures(domain, large, self.base[key])
            self.known[key] = figures
        made, _ = translate(generator, small, upsampling, device)
        features = embed(self.teacher, made, device)
        methods = {**self.known[key], "enhanced": self._figures(domain, made, features)}
        gains = self._gains(self.base[key], features, resamples) if resamples else []
        return Point(domain, side, eye_distance(side), methods, gains)

    def _figures(self, domain: DomainName, pictures: Bytes, features: Tensor) -> MethodFigures:
        paired = domain == "source"
        good = self.validation.teacher
        return MethodFigures(
            self._verify(features),
            float((features * good).sum(dim=1).mean()),
            frechet_distance(good.numpy(), features.numpy()),
            psnr(pictures, self.crops) if paired else float("nan"),
            ssim(pictures, self.crops) if paired else float("nan"),
        )

    def _scores(self, features: Tensor) -> npt.NDArray[np.float32]:
        """(P,) good face against the other one."""
        cosines = (self.validation.teacher @ features.T).numpy()
        return np.asarray(cosines[self.first, self.second], dtype=np.float32)

    def _verify(self, features: Tensor) -> Verification:
        return verify(self._scores(features), self.same)

    def _gains(self, base: Tensor, made: Tensor, resamples: int) -> list[Gain]:
        impostors = np.random.default_rng(0).permutation(np.flatnonzero(~self.same))
        chosen = np.concatenate([np.flatnonzero(self.same), impostors[:MAX_IMPOSTORS]])
        return verification_gains(
            self._scores(base)[chosen],
            self._scores(made)[chosen],
            self.same[chosen],
            self.people[self.first[chosen]],
            self.people[self.second[chosen]],
            resamples,
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


@torch.no_grad()
def embed(teacher: nn.Module, pictures: Bytes, device: torch.device) -> Tensor:
    """(N,112,112,3) uint8 RGB -> (N,d) unit features, fp32, on the CPU."""
    parts = []
    for start in range(0, len(pictures), BATCH):
        block = torch.from_numpy(pictures[start : start + BATCH]).to(device)
        parts.append(teacher(block.permute(0, 3, 1, 2).float()).float().cpu())
    return F.normalize(torch.cat(parts))


def _first_people(people: npt.NDArray[np.str_], limit: int) -> npt.NDArray[np.intp]:
    """Positions of whole people, in the order of their names, until there are `limit` faces."""
    order = np.argsort(people, kind="stable")
    if not limit or limit >= len(people):
        return np.sort(order)
    last = people[order[limit - 1]]
    return np.flatnonzero(people <= last)
