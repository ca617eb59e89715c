"""What a run's generators are worth on held-out people, one face of each pair near infrared.

The near infrared is simulated; one of its domains, "formula", was never trained on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from models.ddat.degradations import levels, scaled, shrink_by_area, up_sample
from models.ddat.measure import frechet_distance
from models.nir_cyclegan.figures import DomainFigures, Measured, MethodFigures
from models.nir_cyclegan.pictures import (
    Equalisation,
    Operation,
    equalised,
    equalises_input,
)
from models.nir_cyclegan.simulated import DOMAINS, DomainName
from models.training.faces import Faces
from models.training.gain_points import gain_points
from models.training.held_out import BATCH, CENTRAL, AlteredPairs, embed
from models.training.validation import Validation
from models.zoo.enhancer_card import GainPoint

Bytes = npt.NDArray[np.uint8]


class Translators(NamedTuple):
    """Both generators as they are served, in evaluation mode, and what they are given.

    Attributes:
        nir2vis: F, (B,3,112,112) -1 to 1 -> the same.
        vis2nir: G.
        he: where histograms are equalised.
        device: where both are.
    """

    nir2vis: nn.Module
    vis2nir: nn.Module
    he: Equalisation
    device: torch.device

    @torch.no_grad()
    def translate(self, operation: Operation, pictures: Bytes) -> Bytes:
        """(N,112,112,3) uint8 RGB -> the same, translated."""
        network = self.nir2vis if operation == "nir2vis" else self.vis2nir
        prepare = equalised if equalises_input(operation, self.he) else np.asarray
        parts = []
        for start in range(0, len(pictures), BATCH):
            images = np.stack([scaled(prepare(face)) for face in pictures[start : start + BATCH]])
            made: Tensor = network(torch.from_numpy(images).to(self.device))
            parts.append(levels(made.float().cpu().numpy()))
        return np.concatenate(parts)


class Examination(AlteredPairs):
    """The held-out faces, prepared once; what does not depend on a generator is kept."""

    def __init__(self, faces: Faces, validation: Validation, verifier: nn.Module, limit: int = 0):
        super().__init__(faces, validation, verifier, limit)
        self.turned: dict[DomainName, Bytes] = {}
        self.base: dict[DomainName, Tensor] = {}

    def of(self, translators: Translators, resamples: int = 0) -> Measured:
        """Measures both generators.

        Args:
            translators: they.
            resamples: of the gains' intervals; 0 for none.
        """
        domains = [self._domain(name, translators, resamples) for name in DOMAINS]
        device = translators.device
        drawn = translators.translate("vis2nir", self.crops)
        back = translators.translate("nir2vis", drawn)
        features = embed(self.verifier, drawn, device)
        return Measured(
            clean=self.clean(),
            domains=domains,
            cycle_identity=self._identity(embed(self.verifier, back, device)),
            drawn_identity=self._identity(features),
            nir_frechet=frechet_distance(self.base["simulated"].numpy(), features.numpy()),
            faces=len(self.rows),
            people=len(set(self.people.tolist())),
        )

    def by_size(
        self, translators: Translators, sides: Sequence[int], resamples: int
    ) -> list[GainPoint]:
        """What F gains on each domain's faces with so many pixels left across the crop.

        Args:
            translators: they.
            sides: pixels; the picture is scaled by area, then cubically to the full size.
            resamples: of the intervals.
        """
        points = []
        for domain in DOMAINS:
            for side in sides:
                small = np.stack(
                    [
                        up_sample(shrink_by_area(face, side), "bicubic")
                        for face in self.faces_in(domain)
                    ]
                )
                base = embed(self.verifier, small, translators.device)
                made = embed(
                    self.verifier, translators.translate("nir2vis", small), translators.device
                )
                points += gain_points(domain, side, self.gains(base, made, resamples))
        return points

    def faces_in(self, domain: DomainName) -> Bytes:
        """(N,112,112,3) the held-out faces turned to a domain, the same at every call."""
        if domain not in self.turned:
            turn = DOMAINS[domain]
            self.turned[domain] = np.stack(
                [
                    turn(crop, np.random.default_rng((int(row), len(domain))))
                    for crop, row in zip(self.crops, self.rows, strict=True)
                ]
            )
        return self.turned[domain]

    def _domain(
        self, domain: DomainName, translators: Translators, resamples: int
    ) -> DomainFigures:
        pictures = self.faces_in(domain)
        if domain not in self.base:
            self.base[domain] = embed(self.verifier, pictures, translators.device)
        made = translators.translate("nir2vis", pictures)
        features = embed(self.verifier, made, translators.device)
        methods = {
            "none": self._figures(self.base[domain]),
            "translated": self._figures(features),
        }
        gains = self.gains(self.base[domain], features, resamples) if resamples else []
        return DomainFigures(domain, methods, gains)

    def _figures(self, features: Tensor) -> MethodFigures:
        return MethodFigures(
            self.verify(features),
            self._identity(features),
            frechet_distance(self.good.numpy(), features.numpy()),
            self.false_matches(features),
        )

    def _identity(self, features: Tensor) -> float:
        return float((features * self.good).sum(dim=1).mean())


def judged_by(
    verifier: nn.Module, faces: Faces, validation: Validation, device: torch.device
) -> Validation:
    """The same held-out pairs for a verifier that had no part in the training."""
    crops = np.ascontiguousarray(faces.crops[validation.rows][:, CENTRAL, CENTRAL])
    return Validation(faces, validation.rows, embed(verifier, crops, device))
